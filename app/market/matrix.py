"""The market matrix: candles in, metrics out (see the package's docstring for the guide)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, BoolArray, CandleBatch, FloatArray, IntArray
from app.market import intake
from app.market.arrivals import Counters, all_forming_next, all_next, sort_out
from app.market.bars import BarsSoFar, so_far
from app.market.blocks import Block, Candles
from app.market.columns import METRIC_COLUMNS
from app.market.evaluation import Evaluation
from app.market.indicators import Before, peek, take_block
from app.market.layout import MINUTE_PLANES, NO_MINUTE, QUARTER
from app.market.metrics import MetricsBatch
from app.market.packing import pack_candles
from app.market.plan import Plan
from app.market.replay import begin_block, mark_changed, needing_replay, rewind
from app.market.results import Results
from app.market.snapshots import pack_indicators, pack_state, unpack_indicators, unpack_state
from app.market.state import Retention, State
from app.market.storage import summarise_quarter, write_rows
from app.market.surroundings import Surroundings, running_totals
from app.market.symbols import SymbolColumns
from app.market.timeframes import TIMEFRAMES
from app.market.warm_up import warm_up

_RESTORED_AHEAD = 480
"""Minutes that restoring may run ahead of the indicators."""


class MarketMatrix:
    """Rolling windows and indicators of all symbols of a shard.

    columns: the metric columns to compute; fewer cost less. late_horizon_minutes: how far before a symbol's
    newest minute a late or corrected candle still leads to new rows. Raises ValueError for unknown columns.
    """

    def __init__(self, *, columns: Sequence[str] = METRIC_COLUMNS, late_horizon_minutes: int = 60) -> None:
        self._plan = Plan(columns)
        self._evaluation = Evaluation(self._plan)
        self._horizon = late_horizon_minutes
        self._state = State(Retention(late_horizon_minutes))
        self._symbols = SymbolColumns(self._state)
        self.counters = Counters()

    @property
    def columns(self) -> tuple[str, ...]:
        return self._plan.columns

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol that has been seen and not dropped."""
        return self._symbols.names

    @property
    def minutes_held(self) -> int:
        """Minutes of history that the rings have room for."""
        return Retention(self._horizon).minute_quarters * QUARTER

    def memory_bytes(self) -> int:
        """Bytes of all rolling state, room for further symbols included."""
        return self._state.memory_bytes()

    def drop_symbol(self, symbol: str) -> None:
        """Forgets a symbol; an unknown one is no error."""
        self._symbols.drop(symbol)

    def update(self, batch: CandleBatch) -> MetricsBatch:
        """Takes a batch in and evaluates what it changed.

        Rows come out in order of minute, then symbol, then forming before closed; see the package docstring
        for which candles lead to rows. Candles older than the rings are counted and ignored.
        """
        results = Results(self._plan.columns)
        with np.errstate(all="ignore"):
            if len(batch):
                columns = self._symbols.columns_of(batch)
                candles = Candles.of(batch, columns, batch.open_time_ms // MINUTE_MS)
                self._update(candles, batch.closed, results)
            return results.batch(batch, self._symbols)

    def _update(self, candles: Candles, closed: BoolArray, results: Results) -> None:
        self._catch_up()
        if all_next(self._state, candles, closed):
            self._take_closed(candles, results)
            return
        if all_forming_next(self._state, candles, closed):
            minute = int(candles.minutes[0])
            results.add_forming(candles, self._forming_values(self._state, candles, minute))
            return
        arrivals = sort_out(self._state, candles, closed, self.counters)
        if len(arrivals.revisions):
            self._revise(arrivals.revisions, results)
        for phase in range(int(arrivals.phase.max(initial=-1)) + 1):
            rows = arrivals.next_rows.take(np.flatnonzero(arrivals.phase == phase))
            if not len(rows):
                continue
            if phase % 2 == 0:
                self._take_closed(rows, results)
            else:
                self._evaluate_forming(rows, results)

    def _catch_up(self) -> None:
        """Brings indicators that lag behind restored minutes up to them."""
        if self._plan.recursive:
            lagging = needing_replay(self._state)
            if len(lagging):
                self._replay(lagging, None, None, None)

    def _take_closed(self, candles: Candles, results: Results) -> None:
        for quarter, some in intake.by_quarter(candles):
            taken = intake.take_in(self._state, quarter, some)
            around = self._evaluation.surroundings(self._state, taken.block, taken.heads)
            bars, before = self._take_bars(taken.block, around)
            values = self._evaluation.evaluate(self._state, taken.block, around, bars, before, closed=True)
            results.add_taken(taken, values)

    def _take_bars(self, block: Block, around: Surroundings) -> tuple[BarsSoFar | None, Before | None]:
        """The bars so far, when a column needs them, and the state before them, taking in those that
        close."""
        if not self._plan.bars:
            return None, None
        bars = so_far(self._state, block, around)
        if not self._plan.recursive:
            return bars, None
        begin_block(self._state, block)
        return bars, take_block(self._state, block, bars)

    def _evaluate_forming(self, candles: Candles, results: Results) -> None:
        """Forming candles after the newest minute; those behind a gap on a copy in which time has moved
        on."""
        after_gap = candles.minutes != self._state.newest[candles.columns] + 1
        for minute in np.unique(candles.minutes).tolist():
            of_minute = candles.minutes == minute
            plain = np.flatnonzero(of_minute & ~after_gap)
            if len(plain):
                some = candles.take(plain)
                results.add_forming(some, self._forming_values(self._state, some, minute))
            gapped = np.flatnonzero(of_minute & after_gap)
            if len(gapped):
                some = candles.take(gapped)
                results.add_forming(some, self._values_after_gap(some, minute))

    def _values_after_gap(self, candles: Candles, minute: int) -> FloatArray:
        copy = self._state.copy_of(candles.columns)
        for column in range(copy.used):
            intake.pass_time(copy, column, minute)
        moved = Candles(
            np.arange(copy.used),
            candles.minutes,
            candles.sums,
            candles.extremes,
            candles.prices,
            candles.rows,
        )
        return self._forming_values(copy, moved, minute)

    def _forming_values(self, state: State, candles: Candles, minute: int) -> FloatArray:
        """(columns, W): of candles of one minute that follows each symbol's newest, by ascending column."""
        quarter, offset = divmod(minute, QUARTER)
        columns = state.columns(candles.columns)
        block = Block(
            quarter, offset, columns,
            candles.sums[:, np.newaxis], candles.extremes[:, np.newaxis], candles.prices[:, np.newaxis],
            known=None, active=None,
        )  # fmt: skip
        around = self._evaluation.surroundings(
            state, block, running_totals(block, intake.quarter_so_far(state, block))
        )
        bars = so_far(state, block, around) if self._plan.bars else None
        before = peek(state, block, bars) if bars is not None and self._plan.recursive else None
        return self._evaluation.evaluate(state, block, around, bars, before, closed=False)

    def _revise(self, candles: Candles, results: Results) -> None:
        """Late and corrected closed candles: replaces the minutes and evaluates again what depends on
        them."""
        self._rewrite(candles)
        since = self._state.newest.copy()
        recent = candles.minutes >= since[candles.columns] - self._horizon
        np.minimum.at(since, candles.columns[recent], candles.minutes[recent])
        self._replay(np.unique(candles.columns), since, candles, results)

    def _rewrite(self, candles: Candles) -> None:
        state = self._state
        write_rows(state, candles)
        keys = np.unique(np.stack((candles.minutes // QUARTER, candles.columns)), axis=1)
        for quarter in np.unique(keys[0]).tolist():
            summarise_quarter(state, quarter, keys[1][keys[0] == quarter])
        for stamp in (state.table_quarter, state.bars_quarter, state.five_bar):
            stamp[candles.columns] = NO_MINUTE
        mark_changed(state, candles.columns, candles.minutes)

    def _replay(
        self,
        positions: NDArray[np.intp],
        since: IntArray | None,
        causes: Candles | None,
        results: Results | None,
    ) -> None:
        """Brings the indicators of these symbols up to their newest minute, and evaluates, when there are
        `results`, every known minute from `since` (by column) on."""
        state = self._state
        if self._plan.recursive:
            for column in positions.tolist():
                rewind(state, column)
            first = (state.stand + 1) // QUARTER
            state.table_quarter[positions] = NO_MINUTE
            if since is not None:
                first = np.minimum(first, since // QUARTER)
        else:
            assert since is not None
            first = since // QUARTER
        last = state.newest // QUARTER
        for quarter in range(int(first[positions].min()), int(last[positions].max()) + 1):
            chosen = positions[(first[positions] <= quarter) & (quarter <= last[positions])]
            if not len(chosen):
                continue
            block = intake.read_block(state, quarter, state.columns(chosen), state.stand[chosen])
            around = self._evaluation.surroundings(state, block, running_totals(block, None))
            bars, before = self._take_bars(block, around)
            if results is None or since is None or causes is None or (since[chosen] > block.last).all():
                continue
            values = self._evaluation.evaluate(state, block, around, bars, before, closed=True)
            results.add_revised(block, chosen, since[chosen], values, causes)

    def restore_minutes(self, batch: CandleBatch) -> None:
        """Takes closed candles in without evaluating them: any subset of minutes, in any order, repeats
        included.

        Forming candles are ignored. Candles more than a day before the newest only serve the volume ratios.
        The indicators follow at the next update.
        """
        if not len(batch):
            return
        with np.errstate(all="ignore"):
            columns = self._symbols.columns_of(batch)
            candles = Candles.of(batch, columns, batch.open_time_ms // MINUTE_MS)
            arrivals = sort_out(self._state, candles, batch.closed, Counters())
            if len(arrivals.revisions):
                self._rewrite(arrivals.revisions)
            closed = np.flatnonzero(arrivals.closed)
            if len(closed):
                self._restore_next(arrivals.next_rows.take(closed))

    def _restore_next(self, candles: Candles) -> None:
        state = self._state
        for quarter, some in intake.by_quarter(candles):
            # Minutes must not leave the ring before the indicators have seen them.
            behind = state.newest != NO_MINUTE
            behind &= quarter * QUARTER - state.stand > _RESTORED_AHEAD
            if self._plan.recursive and behind[: state.used].any():
                self._replay(np.flatnonzero(behind[: state.used]), None, None, None)
            absorbed = some.minutes <= state.stand[some.columns]
            intake.take_in(state, quarter, some)
            if absorbed.any():
                mark_changed(state, some.columns[absorbed], some.minutes[absorbed])

    def pack_minute(self, open_time_ms: int) -> bytes:
        """The closed candles of a minute, of all symbols that have it, for `unpack_minute`; the minute must
        be at most a day older than the symbol's newest."""
        state, minute = self._state, open_time_ms // MINUTE_MS
        named = self._symbols.items()
        columns = np.array([column for _, column in named], dtype=np.intp)
        newest = state.newest[columns]
        there = (state.known[minute % state.quote_rows, columns] == 1) & (minute <= newest)
        there &= minute > newest - state.minute_rows
        columns = columns[there]
        planes = dict(zip(MINUTE_PLANES, state.minutes[:, minute % state.minute_rows, columns], strict=True))
        planes["low"] = -planes["negated_low"]
        planes["quote_volume"] = state.quote[minute % state.quote_rows, columns]
        symbols = tuple(name for (name, _), is_there in zip(named, there.tolist(), strict=True) if is_there)
        return pack_candles(open_time_ms, symbols, planes)

    def warm_up_bars(self, timeframe: str, bars: CandleBatch) -> None:
        """Warms the timeframe's recursive indicators up from closed bars of that interval, open_time_ms
        their start.

        Of each symbol the last unbroken run of bars counts; it comes into force at the bar that follows it,
        whose minutes must be known from their first. A run that ends more than a day before the newest minute
        comes too late. Runs of 5m bars are cut to end with a quarter of an hour. Windows, cloud and bubbles
        stand on minutes alone.
        Raises ValueError for an unknown timeframe, and for 1m, whose minutes `restore_minutes` takes.
        """
        if timeframe not in TIMEFRAMES or timeframe == "1m":
            raise ValueError(
                f"no bars of {timeframe!r} to warm up from; there are {', '.join(TIMEFRAMES)} above 1m"
            )
        if len(bars):
            with np.errstate(all="ignore"):
                warm_up(self._state, timeframe, bars, self._symbols.columns_of(bars))

    def snapshot(self) -> bytes:
        """The whole state, for `restore`."""
        return pack_state(self._state, self._symbols)

    @classmethod
    def restore(cls, data: bytes, *, columns: Sequence[str] = METRIC_COLUMNS) -> Self:
        """A matrix that goes on where the one that wrote the snapshot stood; its counters begin at zero.

        Raises BadFrame for bytes that `snapshot` of this version did not write.
        """
        state, symbols = unpack_state(data)
        matrix = cls(columns=columns, late_horizon_minutes=state.retention.late_horizon_minutes)
        matrix._state, matrix._symbols = state, symbols
        return matrix

    def indicator_snapshot(self) -> bytes:
        """What minutes alone cannot bring back: recursive indicators, with the minute at which they stand per
        symbol and their checkpoints, and the week's sums. Some 7 KB a symbol."""
        with np.errstate(all="ignore"):
            self._catch_up()
        return pack_indicators(self._state, self._symbols)

    def restore_indicators(self, data: bytes) -> None:
        """Puts a snapshot's indicators in, before or after `restore_minutes`; they go on from there at the
        next update.

        With every minute of the last 25 hours restored the state is that of an uninterrupted run. Where
        minutes that the indicators had seen are missing, they go on from after those.
        Raises BadFrame for bytes that `indicator_snapshot` of this version did not write.
        """
        unpack_indicators(data, self._state, self._symbols)
