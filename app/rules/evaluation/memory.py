"""Memory of the evaluation per symbol: the values of the previous minute, and since when a rule holds.

prev(x) at minute t is x at the closed minute t - 1; null if that minute was not evaluated. Each symbol's last two
closed minutes are remembered, so that a closed minute evaluated again (a correction, a repeated frame) sees the same
values as the first time. Older minutes, evaluated again after a late candle, see the values of their own frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, BoolArray, FloatArray, IntArray
from app.compiled import kernel
from app.market.metrics import MetricsBatch

Positions = NDArray[np.intp]
NEVER = -(2**62)


class SymbolRegister:
    """Symbol -> position in the arrays of the memory; a symbol keeps its position."""

    def __init__(self) -> None:
        self.position: dict[str, int] = {}
        self._seen: tuple[str, ...] = ()
        self._positions: Positions = np.zeros(0, np.intp)

    def __len__(self) -> int:
        return len(self.position)

    def positions(self, batch: MetricsBatch) -> Positions:
        """Return the position of each row's symbol, shape (rows,)."""
        if batch.symbols != self._seen:
            self._positions = self.positions_of(batch.symbols)
            self._seen = batch.symbols
        return self._positions[batch.symbol_index]

    def positions_of(self, symbols: Iterable[str]) -> Positions:
        """Return the position of each symbol."""
        known = self.position
        return np.array([known.setdefault(symbol, len(known)) for symbol in symbols], np.intp)


class SymbolFilter:
    """Filter of rows by symbol; symbols are known by their positions in a register that only grows."""

    def __init__(self, symbols: frozenset[str]) -> None:
        self._symbols = symbols
        self._chosen: BoolArray = np.zeros(0, np.bool_)

    def rows(self, register: SymbolRegister, positions: Positions) -> BoolArray:
        """Return (rows,): whether a row is of one of the symbols. positions: the register's positions of the rows."""
        if len(self._chosen) < len(register):
            new = [symbol in self._symbols for symbol in islice(register.position, len(self._chosen), None)]
            self._chosen = np.append(self._chosen, np.array(new, np.bool_))
        return self._chosen[positions]


def rounds(positions: Positions) -> list[Positions]:
    """Split rows so that no round has a symbol twice and each symbol's rows keep their order."""
    order = np.argsort(positions, kind="stable")
    ordered = positions[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    if len(starts) == len(positions):
        return [np.arange(len(positions))]
    lengths = np.diff(np.append(starts, len(ordered)))
    repeat = np.arange(len(ordered)) - np.repeat(starts, lengths)
    by_repeat = np.argsort(repeat, kind="stable")
    return np.split(order[by_repeat], np.cumsum(np.bincount(repeat))[:-1])


@dataclass(frozen=True, slots=True)
class Links:
    """The source of each value, as positions in [this batch's rows | now | before | NaN].

    source: shape (rows + 2 x symbols,): of the prev of each row, then of the state after the batch. Without a
    closed row that state does not change, and is left out. room: for the values at those positions.
    """

    source: Positions
    room: FloatArray


class PreviousValues:
    """The remembered operands of prev() at each symbol's last two closed minutes, by text of the operand."""

    def __init__(self) -> None:
        self.minute_now: IntArray = np.zeros(0, np.int64)
        self.minute_before: IntArray = np.zeros(0, np.int64)
        self.planes: dict[str, FloatArray] = {}
        """Operand -> its value at the last and the second last closed minute, (2, symbols)."""

    def grow(self, symbols: int) -> None:
        more = symbols - len(self.minute_now)
        if more <= 0:
            return
        self.minute_now = np.append(self.minute_now, np.full(more, NEVER))
        self.minute_before = np.append(self.minute_before, np.full(more, NEVER))
        unknown = np.full((2, more), np.nan)
        self.planes = {text: np.hstack((plane, unknown)) for text, plane in self.planes.items()}

    def keep(self, texts: Sequence[str]) -> None:
        """Forget all operands but these; new ones are null until their second closed minute."""
        unknown = np.full((2, len(self.minute_now)), np.nan)
        self.planes = {text: self.planes.get(text, unknown) for text in texts}

    def follow(self, batch: MetricsBatch, symbols: Positions) -> Links:
        """Move the minutes on by the batch; return where values come from and go to. symbols: (rows,) the position of
        each row's symbol; its rows are in order."""
        rows, known = len(batch), len(self.minute_now)
        null = rows + 2 * known
        source = np.empty(null, np.intp)
        remembered = source[rows:].reshape(2, known)
        remembered[:] = np.arange(rows, null).reshape(2, known)
        latest = np.full(known, NEVER), np.full(known, null)
        # copies: a kernel is compiled for arrays that may be written, and these may be views of a record
        minutes, closed = np.array(batch.open_time_ms), np.array(batch.closed)
        _follow_rows(
            symbols, minutes, closed, self.minute_now, self.minute_before, remembered, *latest, source[:rows]
        )
        room = np.empty(null + 1)
        room[null] = np.nan
        return Links(source if closed.any() else source[:rows], room)

    def exchange(self, text: str, links: Links, values: FloatArray) -> FloatArray:
        """Return the operand's previous value per row; remember its values of this batch."""
        rows, room, plane = len(values), links.room, self.planes[text]
        room[:rows] = values
        room[rows:-1] = plane.ravel()
        found = room.take(links.source)
        if len(found) > rows:
            self.planes[text] = found[rows:].reshape(plane.shape)
        return found[:rows]

    def take(self, other: PreviousValues, texts: Sequence[str], symbols: Positions) -> None:
        """Take these operands from another memory, for the symbols whose last minute is the same there. symbols:
        positions here, by position there."""
        held = len(other.minute_now)
        same = np.flatnonzero(other.minute_now == self.minute_now[symbols[:held]])
        for text in texts:
            self.planes[text][:, symbols[same]] = other.planes[text][:, same]

    def minutes(self) -> IntArray:
        """Return each symbol's last and second last closed minute, (2, symbols)."""
        return np.stack((self.minute_now, self.minute_before))

    def values(self) -> FloatArray:
        """Return the remembered values, (operands, 2, symbols), in the order of the operands."""
        planes = list(self.planes.values())
        return np.array(planes, np.float64).reshape(len(planes), 2, len(self.minute_now))

    def take_back(self, minutes: IntArray, values: Mapping[str, FloatArray]) -> None:
        """Restore the results of `minutes` and `values` (2, symbols) by operand; ignore unused operands."""
        texts = list(self.planes)
        self.minute_now, self.minute_before = minutes.copy()
        self.planes = {text: plane for text, plane in values.items() if text in texts}
        self.keep(texts)


class HeldSince:
    """Since when the condition of one rule has been true at every evaluation of each symbol (event time, ms).

    A minute that was not evaluated breaks the hold: the condition in it is unknown.
    """

    def __init__(self, hold_ms: int) -> None:
        self._hold_ms = hold_ms
        self.since_ms: IntArray = np.zeros(0, np.int64)
        self.minute_ms: IntArray = np.zeros(0, np.int64)

    def grow(self, symbols: int) -> None:
        if symbols > len(self.since_ms):
            more = np.full(symbols - len(self.since_ms), NEVER)
            self.since_ms = np.append(self.since_ms, more)
            self.minute_ms = np.append(self.minute_ms, more)

    def apply(
        self,
        truth: BoolArray,
        eligible: BoolArray | None,
        event_time_ms: IntArray,
        minute_ms: IntArray,
        symbols: Positions,
        turns: Sequence[Positions],
    ) -> BoolArray:
        """Return the rows at which the condition has held long enough. `eligible` None: all rows are evaluated."""
        held = np.zeros(len(truth), np.bool_)
        for turn in turns:
            rows = turn if eligible is None else turn[eligible[turn]]
            gap = minute_ms[rows] - self.minute_ms[symbols[rows]]
            rows, gap = rows[gap >= 0], gap[gap >= 0]
            symbol, time = symbols[rows], event_time_ms[rows]
            since = self.since_ms[symbol]
            begins = (since == NEVER) | (gap > MINUTE_MS)
            since = np.where(truth[rows], np.where(begins, time, since), NEVER)
            self.since_ms[symbol], self.minute_ms[symbol] = since, minute_ms[rows]
            held[rows] = truth[rows] & (time - since >= self._hold_ms)
        return held

    def times(self) -> IntArray:
        """Return since when it holds, and the last minute evaluated, (2, symbols)."""
        return np.stack((self.since_ms, self.minute_ms))

    def take_back(self, times: IntArray) -> None:
        """Restore the result of `times`."""
        self.since_ms, self.minute_ms = times.copy()


@kernel
def _follow_rows(
    symbols: Positions, minutes: IntArray, closed: BoolArray, minute_now: IntArray, minute_before: IntArray,
    remembered: Positions, in_batch_minute: IntArray, in_batch: Positions, source: Positions,
) -> None:  # fmt: skip
    """Write the source of each row's previous value, and move the two remembered minutes on, row by row.

    remembered: (2, symbols) the source of the values at the newest closed minute and at the one before.
    in_batch_minute, in_batch: (symbols,) minute and row of the last closed row so far, NEVER and null before one.
    """
    now, before = 0, 1
    null = len(source) + 2 * len(minute_now)
    for row in range(len(source)):
        symbol, minute = symbols[row], minutes[row]
        wanted = minute - MINUTE_MS
        if wanted == in_batch_minute[symbol]:
            source[row] = in_batch[symbol]
        elif wanted == minute_now[symbol]:
            source[row] = remembered[now, symbol]
        elif wanted == minute_before[symbol]:
            source[row] = remembered[before, symbol]
        else:
            source[row] = null
        if closed[row]:
            in_batch_minute[symbol], in_batch[symbol] = minute, row
            if minute > minute_now[symbol]:
                minute_before[symbol], remembered[before, symbol] = (
                    minute_now[symbol],
                    remembered[now, symbol],
                )
                minute_now[symbol], remembered[now, symbol] = minute, row
            elif minute == minute_now[symbol]:
                remembered[now, symbol] = row
            elif minute >= minute_before[symbol]:
                minute_before[symbol], remembered[before, symbol] = minute, row
