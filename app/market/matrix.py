"""The market matrix: candles in, metrics out (see the package's docstring for the guide)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, CandleBatch, IntArray
from app.market.fields import METRIC_COLUMNS
from app.market.indicators.warm_up import warm_up
from app.market.metrics import MetricsBatch
from app.market.plan import Plan
from app.market.results import metrics_of, order_of, places_of
from app.market.rings.arrivals import CLOSED, Counters, sort_out
from app.market.rings.layout import DAY, LATE_HORIZON_MINUTES, NO_MINUTE, QUARTER
from app.market.rings.packing import MINUTE_FIELDS, pack_candles
from app.market.rings.records import CANDLE, Records
from app.market.rings.snapshots import pack_indicators, unpack_indicators
from app.market.rings.state import Retention, State
from app.market.rings.symbols import SymbolColumns
from app.market.stepping import bring_to, catch_up_all, restore, take_steps
from app.market.timeframes import TIMEFRAMES

_PACKED_AT_ONCE: Final = 64
"""Minutes: a few megabytes of hundreds of symbols."""


class MarketMatrix:
    """Rolling windows and indicators of all symbols of a shard.

    columns: the metric columns to compute; fewer cost less. late_horizon_minutes: how far before a symbol's
    newest minute a late or corrected candle still leads to new rows. Raises ValueError for unknown columns.
    """

    def __init__(
        self, *, columns: Sequence[str] = METRIC_COLUMNS, late_horizon_minutes: int = LATE_HORIZON_MINUTES
    ) -> None:
        self._plan = Plan(columns)
        self._horizon = late_horizon_minutes
        self._state = State(Retention(late_horizon_minutes))
        self._aside = State(Retention(late_horizon_minutes), capacity=1)
        """Room for a copy of one symbol."""
        self._symbols = SymbolColumns(self._state)
        self._row = np.empty(len(METRIC_COLUMNS))
        """Scratch."""
        self._behind = False
        """Whether indicators may be behind their symbol's newest minute."""
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
        """Forget a symbol; an unknown one is no error."""
        self._symbols.drop(symbol)

    def drop_left(self) -> None:
        """Forget symbols whose newest minute is more than a day older than the newest of all. Call it when minutes
        are restored."""
        named = self._symbols.items()
        if named:
            newest = self._state.newest()[[column for _, column in named]]
            left = np.flatnonzero(newest < newest.max() - DAY)
            for at in left.tolist():
                if newest[at] != NO_MINUTE:
                    self.drop_symbol(named[at][0])

    def update(self, batch: CandleBatch) -> MetricsBatch:
        """Take a batch in and evaluate the minutes that it changed.

        Rows come out in order of minute, then symbol, then forming before closed; see the package docstring
        for which candles lead to rows. Candles older than the rings are counted and ignored.
        """
        self._catch_up()
        candles, arrival = _by_symbol(_candles_of(batch, self._symbols.columns_of(batch)))
        steps, in_order = sort_out(self._state.rings, candles, arrival, self._horizon, self.counters.counts)
        order = order_of(steps, in_order)
        places = order if in_order else places_of(order)
        values = np.empty((len(steps), len(self._plan.columns)))
        done = 0
        while done < len(steps):
            done = self._take(self._state, candles, steps, places, done, values)
            if done < len(steps):
                done = self._leap(candles, steps, places, done, values)
        rows = steps if in_order else steps.take(order)
        return metrics_of(batch, self._plan.columns, rows, arrival[rows["candle"]], values)

    def _take(
        self, state: State, candles: Records, steps: Records, places: IntArray, first: int, values: np.ndarray
    ) -> int:
        plan = self._plan
        return take_steps(
            state.rings, candles, steps, places, first,
            plan.needs.value, plan.timeframes, plan.positions, self._row, values,
        )  # fmt: skip

    def _leap(self, candles: Records, steps: Records, places: IntArray, at: int, values: np.ndarray) -> int:
        """Handle a step that does not follow its symbol's newest minute; return how many steps are done then.

        A forming candle is computed on a copy in which time has moved on.
        """
        step = steps[at : at + 1].copy()
        column, minute = int(step["column"][0]), int(step["minute"][0])
        if step["kind"][0] == CLOSED:
            self._state.reset(column)
            return at
        self._state.copy_into(self._aside, column)
        if minute - self._aside.newest()[0] > self._aside.rings.quote.shape[1]:
            self._aside.reset(0)
        bring_to(self._aside.rings, 0, minute)
        step["column"] = 0
        self._take(self._aside, candles, step, places[at : at + 1], 0, values)
        return at + 1

    def _catch_up(self) -> None:
        """Bring indicators that lag behind restored minutes up to them."""
        if self._behind and self._plan.recursive:
            catch_up_all(self._state.rings, self._state.used, self._row)
        self._behind = False

    def restore_minutes(self, batch: CandleBatch) -> None:
        """Take closed candles in without evaluating them: any subset of minutes, in any order, repeats
        included.

        Forming candles are ignored. Candles more than a day before the newest only serve the volume ratios.
        The indicators follow at the next update.
        """
        self._behind = True
        candles = _candles_of(batch, self._symbols.columns_of(batch))
        candles, arrival = _by_symbol(candles.compress(candles["closed"]))
        rings = self._state.rings
        steps, _ = sort_out(rings, candles, arrival, self._horizon, Counters().counts)
        done = 0
        while done < len(steps):
            done = restore(rings, candles, steps, done, self._plan.recursive, self._row)
            if done < len(steps):
                self._state.reset(int(steps["column"][done]))

    def pack_minute(self, open_time_ms: int) -> bytes:
        """Return the closed candles of a minute, of all symbols that have it, packed for `unpack_minute`; the minute
        must be at most a day older than the symbol's newest."""
        return next(self.pack_minutes([open_time_ms]))

    def pack_minutes(self, open_times_ms: Sequence[int]) -> Iterator[bytes]:
        """Pack many minutes, some at once: for few symbols that takes half the time of one after the other."""
        for start in range(0, len(open_times_ms), _PACKED_AT_ONCE):
            yield from self._pack(open_times_ms[start : start + _PACKED_AT_ONCE])

    def _pack(self, open_times_ms: Sequence[int]) -> Iterator[bytes]:
        rings, minutes = self._state.rings, np.array(open_times_ms)[:, np.newaxis] // MINUTE_MS
        named = self._symbols.items()
        symbols, columns = [name for name, _ in named], np.array([column for _, column in named], np.intp)
        newest = self._state.newest()[columns]
        row, rows = minutes % rings.quote.shape[1], rings.minutes.shape[1]
        there = (rings.known[columns, row] == 1) & (minutes <= newest) & (minutes > newest - rows)
        held = rings.minutes[columns, minutes % rows]
        planes = np.empty((len(minutes), len(MINUTE_FIELDS), len(columns)))
        for at, name in enumerate(MINUTE_FIELDS):
            planes[:, at] = rings.quote[columns, row] if name == "quote_volume" else held[name]
        for open_time_ms, is_there, of_minute in zip(open_times_ms, there, planes, strict=True):
            if is_there.all():
                yield pack_candles(open_time_ms, symbols, of_minute)
            else:
                yield pack_candles(open_time_ms, list(compress(symbols, is_there)), of_minute[:, is_there])

    def warm_up_bars(self, timeframe: str, bars: CandleBatch) -> None:
        """Warm the timeframe's recursive indicators up from closed bars of that interval, open_time_ms
        their start.

        Of each symbol the last unbroken run of bars counts; it comes into force at the bar that follows it, whose
        minutes must be known from their first. A run that ends more than a day before the newest minute comes too
        late. Runs of 5m bars are cut to end with a quarter of an hour. Windows, cloud and bubbles use minutes alone.
        Raises ValueError for an unknown timeframe, and for 1m, whose minutes `restore_minutes` takes.
        """
        if timeframe not in TIMEFRAMES or timeframe == "1m":
            raise ValueError(
                f"no bars of {timeframe!r} to warm up from; there are {', '.join(TIMEFRAMES)} above 1m"
            )
        self._behind = True
        candles = _candles_of(bars, self._symbols.columns_of(bars))
        candles, _ = _by_symbol(candles.compress(candles["closed"]))
        warm_up(self._state.rings, candles, np.arange(len(candles)), list(TIMEFRAMES).index(timeframe))

    def indicator_snapshot(self) -> bytes:
        """Return, packed, the state that minutes alone cannot restore: recursive indicators, with the minute at which
        they stand per symbol and their checkpoints, and the week's sums. Some 7 KB a symbol."""
        self._catch_up()
        return pack_indicators(self._state, self._symbols)

    def restore_indicators(self, data: bytes) -> None:
        """Put a snapshot's indicators in, before or after `restore_minutes`; they go on from there at the
        next update.

        With every minute of the last 25 hours restored the state is that of an uninterrupted run. Where minutes that
        the indicators had seen are missing, the indicators continue after these minutes. Raises BadFrame for bytes
        that `indicator_snapshot` of this version did not write.
        """
        self._behind = True
        unpack_indicators(data, self._state, self._symbols)


def _candles_of(batch: CandleBatch, columns: NDArray[np.intp]) -> Records:
    """Return the batch as records for the kernels, (rows,). columns: (rows,), each row's symbol."""
    candles = np.empty(len(batch), CANDLE)
    candles["column"] = columns
    np.floor_divide(batch.open_time_ms, MINUTE_MS, out=candles["minute"])
    candles["quote"] = batch.quote_volume
    for name in ("open", "high", "low", "close", "volume", "trades", "closed"):
        candles[name] = getattr(batch, name)
    return candles


def _by_symbol(candles: Records) -> tuple[Records, NDArray[np.intp]]:
    """Return the candles by symbol, minute, forming before closed, arrival; and where each one stood before."""
    columns = candles["column"]
    if (columns[1:] > columns[:-1]).all():
        return candles, np.arange(len(candles))
    order = np.lexsort((candles["closed"], candles["minute"], columns))
    return candles.take(order), order
