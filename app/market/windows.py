"""Sliding windows: sums and extremes of the last N minutes, for every minute of a block.

Time is cut into quarters (15 minutes). A window that ends in quarter q starts inside quarter q - N/15, so
    window(t) = tail of that quarter + the whole quarters between + head of quarter q up to t.
The first two are known when q begins: they make a table of 15 rows, one for each minute of q. The head grows
minute by minute. Nothing is ever subtracted, so nothing drifts: a sum of non-negative terms is within
N rounding errors of the true one, however many minutes went before, and it is the same to the bit however
the candles were cut into frames. Maxima go the same way. The 5m window is added up directly.

Cost: a table reads 75 minutes and 95 quarters of each plane, once in 15 minutes; each minute then costs
one addition per window and plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.candles.batch import BoolArray, FloatArray
from app.market.blocks import Block
from app.market.layout import COUNT, LENGTHS, QUARTER, QUARTERS_OF_LONG, TIMEFRAME_COUNT
from app.market.sequences import running, total
from app.market.state import Columns, State, at, pick
from app.market.storage import load
from app.market.surroundings import LOOKBACK, Surroundings

_SPANS: Final = np.array(QUARTERS_OF_LONG)
_LONGEST: Final = int(_SPANS[-1])
_MINUTES: Final = np.arange(QUARTER)


@dataclass(frozen=True, slots=True, eq=False)
class WindowValues:
    """What the windows that end at each minute of a block hold, whole or not.

    sums: (planes, 7, T, W). extremes: (2, 7, T, W). previous: (2, 7, T, W), quote volume and count of the
    window before each. ten: (2, T, W), extremes of the last ten minutes, NaN unless all are known.
    None where not asked for.
    """

    sums: FloatArray
    extremes: FloatArray | None
    previous: FloatArray | None
    ten: FloatArray | None


class Windows:
    """Computes windows of the planes asked for.

    sum_planes: how many planes of sums, in the order of `layout`: 2 (quote volume and count), 3 or 4.
    extremes: whether highs and lows are needed. previous: whether the N minutes before each window are.
    """

    def __init__(self, sum_planes: int, extremes: bool, previous: bool) -> None:
        self._sum_planes = sum_planes
        self._extremes = extremes
        self._previous = previous

    def build(self, state: State, quarter: int, columns: Columns) -> None:
        """Fills the tables of `quarter` for these symbols."""
        planes = self._sum_planes
        minutes = (quarter - _SPANS)[:, np.newaxis] * QUARTER + _MINUTES
        sums, extremes = load(state, minutes, columns, planes, self._extremes)
        between = (quarter - 1 - np.arange(_LONGEST - 1)) % state.quarter_rows
        table = _tails(sums, np.add, 0.0)
        parts = pick(state.quarter_sums[:planes], between, columns)
        table[:, 1:] += _between(parts, np.add)[:, :, np.newaxis]
        state.table_sums[:planes, :, :, columns] = table
        if extremes is not None:
            table = _tails(extremes, np.maximum, -np.inf)
            parts = pick(state.quarter_extremes, between, columns)
            np.maximum(table[:, 1:], _between(parts, np.maximum)[:, :, np.newaxis], out=table[:, 1:])
            state.table_extremes[:, :, :, columns] = table
        if self._previous:
            state.table_previous[:, :, :, columns] = self._previous_windows(state, quarter, columns, sums[:2])

    @staticmethod
    def _previous_windows(state: State, quarter: int, columns: Columns, heads: FloatArray) -> FloatArray:
        """Quote volume and count of the window before each window; heads: the minutes in which those end."""
        minutes = (quarter - 2 * _SPANS)[:, np.newaxis] * QUARTER + _MINUTES
        sums, _ = load(state, minutes, columns, 2, False)
        table = _tails(sums, np.add, 0.0)
        for window, span in enumerate(QUARTERS_OF_LONG[1:], start=1):
            between = (quarter - span - 1 - np.arange(span - 1)) % state.quarter_rows
            table[:, window] += total(pick(state.quarter_sums[:2], between, columns), axis=1)[:, np.newaxis]
        table += running(np.add, heads)
        return table

    def evaluate(self, state: State, block: Block, around: Surroundings) -> WindowValues:
        planes, rows, columns = self._sum_planes, block.rows_in_quarter, block.columns
        shape = (TIMEFRAME_COUNT, block.length, block.width)
        sums = np.concatenate((around.past, block.sums[:planes]), axis=1)
        fives = _five_minutes(sums, np.add)
        windows = np.empty((planes, *shape))
        windows[:, 0] = block.sums[:planes]
        windows[:, 1] = fives[:, 5:]
        tails = at(state.table_sums[:planes, :, rows], columns)
        np.add(tails, around.heads[:planes, np.newaxis], out=windows[:, 2:])
        highs = ten = None
        if around.past_extremes is not None:
            highs = np.empty((2, *shape))
            highs[:, 0] = block.extremes
            extremes = _five_minutes(
                np.concatenate((around.past_extremes, block.extremes), axis=1), np.maximum
            )
            highs[:, 1] = extremes[:, 5:]
            tails = at(state.table_extremes[:, :, rows], columns)
            np.maximum(tails, around.head_extremes[:, np.newaxis], out=highs[:, 2:])
            ten = np.maximum(extremes[:, : block.length], extremes[:, 5:])
            ten[:, fives[COUNT, : block.length] + fives[COUNT, 5:] < 10.0] = np.nan
        previous = None
        if self._previous:
            previous = np.empty((2, *shape))
            previous[:, 0] = sums[:2, LOOKBACK - 1 : -1]
            previous[:, 1] = fives[:2, : block.length]
            previous[:, 2:] = at(state.table_previous[:, :, rows], columns)
        return WindowValues(windows, highs, previous, ten)


def whole(counts: FloatArray) -> BoolArray:
    """(7, T, W): which windows have all their minutes."""
    return np.equal(counts, LENGTHS[:, np.newaxis, np.newaxis])


def _tails(minutes: FloatArray, combine: np.ufunc, nothing: float) -> FloatArray:
    """(planes, 5, 15, W): at row j the combination of the rows after j."""
    tails = np.empty_like(minutes)
    tails[:, :, -1] = nothing
    running(combine, minutes[:, :, :0:-1], out=tails[:, :, -2::-1])
    return tails


def _between(parts: FloatArray, combine: np.ufunc) -> FloatArray:
    """(planes, 4, W): the quarters between head and tail of the windows of 1h and longer; parts: newest
    first.

    Each is the shorter window's and the further quarters together.
    """
    combined = np.empty((len(parts), len(_SPANS) - 1, parts.shape[-1]))
    start = 0
    for row, span in enumerate(QUARTERS_OF_LONG[1:]):
        further = parts[:, start : span - 1]
        combined[:, row] = total(further, axis=1) if combine is np.add else further.max(axis=1)
        if row:
            combine(combined[:, row - 1], combined[:, row], out=combined[:, row])
        start = span - 1
    return combined


def _five_minutes(minutes: FloatArray, combine: np.ufunc) -> FloatArray:
    """(planes, R - 4, W): each row combined with the four after it, oldest first."""
    length = minutes.shape[1] - 4
    fives: FloatArray = combine(minutes[:, :length], minutes[:, 1 : 1 + length])
    for row in range(2, 5):
        combine(fives, minutes[:, row : row + length], out=fives)
    return fives
