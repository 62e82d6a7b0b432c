"""All rolling state of a shard as arrays whose last axis is the symbol.

Every array is declared once in `_specifications`; growing, copying, dropping a symbol, measuring and
snapshots are then the same loop over all of them. Nothing else in this package holds state per symbol.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import FloatArray, IntArray
from app.market.layout import NO_MINUTE, QUARTER, TIMEFRAME_COUNT

Columns = NDArray[np.intp] | slice
"""Which symbols: ascending positions, or a slice from 0 when it is all of them (views instead of copies)."""

WINDOW_COUNT = 5
"""Sliding windows made of whole quarters: 15m, 1h, 4h, 8h, 1d."""
CHECKPOINT_MINUTES = 240
CHECKPOINTS = 8
"""Copies of the indicator state every four hours: more than a ring of minutes spans."""
RECURSIVE_ROWS = 10
LONG_CLOSES = 24
"""Closes kept of the last 4h, 8h and 1d bars, which outlive the ring: 19 for the bands, and a few more."""
_GROWTH = 1.25


@dataclass(frozen=True, slots=True)
class _Specification:
    shape: tuple[int, ...]
    dtype: type[np.generic]
    fill: float


@dataclass(frozen=True, slots=True)
class Retention:
    """How many quarters each ring holds, for evaluations up to `late_horizon_minutes` before the newest."""

    late_horizon_minutes: int

    @property
    def late_quarters(self) -> int:
        return math.ceil(self.late_horizon_minutes / QUARTER)

    @property
    def minute_quarters(self) -> int:
        """A day before the quarter of the oldest minute that may still be evaluated."""
        return 96 + self.late_quarters + 1

    @property
    def quote_quarters(self) -> int:
        """Two days, for the ratio of two daily volumes; one more, for the quarter made ready in advance."""
        return 2 * 96 + self.late_quarters + 2

    @property
    def five_rows(self) -> int:
        """Sixty bars of five minutes before the oldest that may be evaluated, in whole quarters."""
        return 60 + 3 * (self.late_quarters + 2)


class State:
    """The arrays; `S` is the capacity in symbols, of which the first `used` are given out.

    minutes: (6, minute rows, S), planes as in `layout.MINUTE_PLANES`; of a missing minute sums are 0,
        extremes -inf, open and close NaN. Row of a minute: minute modulo rows.
    quote: (quote rows, S), quote volume. known: (quote rows, S), 1 = closed candle known, 2 = absorbed by
        the restored indicators though its values are not here, 0 = missing.
    newest: (S,), newest closed minute. quarter_*: sums, extremes and last close of each quarter so far.
    fives: quote volume of each clock-aligned five minutes, NaN unless complete; five_closes: their closes.
    table_*: for the quarter `table_quarter`, what each window holds before that quarter, per minute of it.
    recursive: (7 timeframes, 10, S), see `indicators`; stands at minute `stand`. checkpoint_*: copies of it.
    week_*: quote, count and volume of the week `week` before quarter `week_quarter`.
    dirty_from: earliest minute changed behind the indicators' back, NO_MINUTE when none.
    """

    minutes: FloatArray
    quote: FloatArray
    known: NDArray[np.uint8]
    newest: IntArray
    quarter_sums: FloatArray
    quarter_extremes: FloatArray
    quarter_close: FloatArray
    fives: FloatArray
    five_closes: FloatArray
    table_sums: FloatArray
    table_extremes: FloatArray
    table_previous: FloatArray
    table_since: FloatArray
    table_bands: FloatArray
    table_cloud: FloatArray
    table_bubble: FloatArray
    table_quarter: IntArray
    table_bars: FloatArray
    bars_quarter: IntArray
    table_five: FloatArray
    five_bar: IntArray
    recursive: FloatArray
    long_closes: FloatArray
    stand: IntArray
    checkpoint: FloatArray
    checkpoint_minute: IntArray
    seed: FloatArray
    seed_minute: IntArray
    origin: IntArray
    absorbed_until: IntArray
    week: IntArray
    week_quarter: IntArray
    week_sums: FloatArray
    dirty_from: IntArray

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self.capacity = 0
        self.used = 0
        self.minute_rows = retention.minute_quarters * QUARTER
        self.quote_rows = retention.quote_quarters * QUARTER
        self.quarter_rows = retention.quote_quarters
        self.five_rows = retention.five_rows
        self._specifications = self._declare()
        for name, spec in self._specifications.items():
            setattr(self, name, np.full((*spec.shape, 0), spec.fill, dtype=spec.dtype))

    def _declare(self) -> dict[str, _Specification]:
        f, i = np.float64, np.int64
        per_table = (WINDOW_COUNT, QUARTER)
        recursive = (TIMEFRAME_COUNT, RECURSIVE_ROWS)
        return {
            "minutes": _Specification((6, self.minute_rows), f, 0.0),
            "quote": _Specification((self.quote_rows,), f, 0.0),
            "known": _Specification((self.quote_rows,), np.uint8, 0),
            "newest": _Specification((), i, NO_MINUTE),
            "quarter_sums": _Specification((4, self.quarter_rows), f, 0.0),
            "quarter_extremes": _Specification((2, self.quarter_rows), f, -np.inf),
            "quarter_close": _Specification((self.quarter_rows,), f, np.nan),
            "fives": _Specification((self.five_rows,), f, np.nan),
            "five_closes": _Specification((self.five_rows,), f, np.nan),
            "table_sums": _Specification((4, *per_table), f, 0.0),
            "table_extremes": _Specification((2, *per_table), f, -np.inf),
            "table_previous": _Specification((2, *per_table), f, 0.0),
            "table_since": _Specification((2, 3), f, 0.0),
            "table_bands": _Specification((5, 2), f, np.nan),
            "table_cloud": _Specification((6,), f, np.nan),
            "table_bubble": _Specification((2,), f, np.nan),
            "table_quarter": _Specification((), i, NO_MINUTE),
            "table_bars": _Specification((3, 4), f, 0.0),
            "bars_quarter": _Specification((), i, NO_MINUTE),
            "table_five": _Specification((6,), f, np.nan),
            "five_bar": _Specification((), i, NO_MINUTE),
            "recursive": _Specification(recursive, f, 0.0),
            "long_closes": _Specification((3, LONG_CLOSES), f, 0.0),
            "stand": _Specification((), i, NO_MINUTE),
            "checkpoint": _Specification((CHECKPOINTS, *recursive), f, 0.0),
            "checkpoint_minute": _Specification((CHECKPOINTS,), i, NO_MINUTE),
            "seed": _Specification(recursive, f, 0.0),
            "seed_minute": _Specification((TIMEFRAME_COUNT,), i, NO_MINUTE),
            "origin": _Specification((), i, NO_MINUTE),
            "absorbed_until": _Specification((), i, NO_MINUTE),
            "week": _Specification((), i, NO_MINUTE),
            "week_quarter": _Specification((), i, NO_MINUTE),
            "week_sums": _Specification((3,), f, 0.0),
            "dirty_from": _Specification((), i, NO_MINUTE),
        }

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for name in self._specifications:
            yield name, getattr(self, name)

    def grow(self, needed: int) -> None:
        """Room for `needed` symbols, a quarter more than before so that growing stays cheap on average."""
        if needed <= self.capacity:
            return
        capacity = max(needed, math.ceil(self.capacity * _GROWTH))
        for name, spec in self._specifications.items():
            grown = np.full((*spec.shape, capacity), spec.fill, dtype=spec.dtype)
            grown[..., : self.capacity] = getattr(self, name)
            setattr(self, name, grown)
            if name == "minutes":
                self._forget_minutes(slice(self.capacity, capacity))
        self.capacity = capacity

    def reset(self, columns: Columns) -> None:
        """As if these symbols had never been seen."""
        for name, spec in self._specifications.items():
            getattr(self, name)[..., columns] = spec.fill
        self._forget_minutes(columns)

    def _forget_minutes(self, columns: Columns) -> None:
        self.minutes[2:4, :, columns] = -np.inf
        self.minutes[4:6, :, columns] = np.nan

    def copy_of(self, columns: NDArray[np.intp]) -> State:
        """A state of its own that holds just these symbols."""
        copy = State(self.retention)
        for name, array in self.arrays():
            setattr(copy, name, np.ascontiguousarray(array[..., columns]))
        copy.capacity = copy.used = len(columns)
        return copy

    def memory_bytes(self) -> int:
        return sum(array.nbytes for _, array in self.arrays())

    def columns(self, positions: NDArray[np.intp]) -> Columns:
        """`positions` (ascending, distinct) as a slice if they are all symbols in use."""
        return slice(0, self.used) if len(positions) == self.used else positions


def pick(plane: NDArray[Any], rows: NDArray[np.intp] | NDArray[np.int64], columns: Columns) -> NDArray[Any]:
    """`plane[..., rows, columns]` for every pair of row and column: shape (..., *rows.shape, columns)."""
    if isinstance(columns, slice):
        return plane[..., rows, columns]
    # Several times faster than an index of two arrays, and contiguous.
    *leading, height, width = plane.shape
    cells = rows[..., np.newaxis] * width + columns
    chosen: NDArray[Any] = plane.reshape(*leading, height * width).take(cells, axis=-1)
    return chosen


def at(array: NDArray[Any], columns: Columns) -> NDArray[Any]:
    """`array[..., columns]`: a view for a slice, else a contiguous copy."""
    chosen: NDArray[Any]
    chosen = array[..., columns] if isinstance(columns, slice) else array.take(columns, axis=-1)
    return chosen
