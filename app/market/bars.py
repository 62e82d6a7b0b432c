"""Clock-aligned bars of every timeframe, as far as they have come at each minute of a block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.candles.batch import BoolArray, FloatArray
from app.market.blocks import Block
from app.market.layout import (
    COUNT,
    HIGH,
    LENGTHS,
    NEGATED_LOW,
    QUARTER,
    QUARTERS_OF_LONG,
    QUOTE,
    TIMEFRAME_COUNT,
)
from app.market.sequences import running
from app.market.state import Columns, State, at, pick
from app.market.surroundings import Surroundings

_LONGER: Final = QUARTERS_OF_LONG[1:]
"""1h and longer: bars that may have begun in an earlier quarter."""


@dataclass(frozen=True, slots=True, eq=False)
class BarsSoFar:
    """The bar in which each minute lies, from its start to that minute.

    extremes: (2, 7, T, W), high and negated low. complete: (7, T, W), no minute of it so far is missing.
    five_quote: (T, W), quote volume of the 5m bar so far.
    """

    extremes: FloatArray
    complete: BoolArray
    five_quote: FloatArray


def prepare(state: State, quarter: int, columns: Columns) -> None:
    """What the longer bars hold before `quarter`, for those of the symbols for which that is not there
    yet."""
    stale = state.bars_quarter[columns] != quarter
    if not stale.any():
        return
    if not stale.all():
        columns = np.arange(state.used)[columns][stale]
    table = np.zeros((3, len(_LONGER), state.newest[columns].shape[0]))
    table[:2] = -np.inf
    for row, length in enumerate(_LONGER):
        past = quarter % length
        if past:
            rows = np.arange(quarter - past, quarter) % state.quarter_rows
            table[:2, row] = pick(state.quarter_extremes, rows, columns).max(axis=1)
            table[2, row] = pick(state.quarter_sums[COUNT], rows, columns).sum(axis=0)
    state.table_bars[..., columns] = table
    state.bars_quarter[columns] = quarter


def so_far(state: State, block: Block, around: Surroundings) -> BarsSoFar:
    prepare(state, block.quarter, block.columns)
    shape = (TIMEFRAME_COUNT, block.length, block.width)
    extremes, counts = np.empty((2, *shape)), np.empty(shape)
    extremes[:, 0], counts[0] = block.extremes, block.sums[COUNT]
    extremes[:, 1], fives = _fives_so_far(block, around)
    counts[1] = fives[COUNT]
    extremes[:, 2], counts[2] = around.head_extremes, around.heads[COUNT]
    before = at(state.table_bars, block.columns)[:, :, np.newaxis]
    np.maximum(before[:2], around.head_extremes[:, np.newaxis], out=extremes[:, 3:])
    np.add(before[2], around.heads[COUNT], out=counts[3:])
    minutes = np.arange(block.first, block.last + 1)
    expected = minutes % LENGTHS[:, np.newaxis] + 1
    return BarsSoFar(extremes, counts == expected[:, :, np.newaxis], fives[QUOTE])


def _fives_so_far(block: Block, around: Surroundings) -> tuple[FloatArray, FloatArray]:
    """Extremes (2, T, W) and quote volume and count (2, T, W) of the 5m bars so far."""
    earlier = block.offset % 5
    sums, extremes = block.sums[: COUNT + 1], block.extremes
    if earlier:
        assert around.past_extremes is not None
        sums = np.concatenate((around.past[: COUNT + 1, -earlier:], sums), axis=1)
        extremes = np.concatenate((around.past_extremes[:, -earlier:], extremes), axis=1)
    totals, extreme = np.empty_like(sums), np.empty_like(extremes)
    for first in range(0, sums.shape[1], 5):
        rows = slice(first, first + 5)
        running(np.add, sums[:, rows], out=totals[:, rows])
        running(np.maximum, extremes[:, rows], out=extreme[:, rows])
    return extreme[:, earlier:], totals[:, earlier:]


def closing_quarters(quarter: int) -> list[int]:
    """Positions of the timeframes of 15m and longer whose bar ends with this quarter."""
    return [2 + row for row, length in enumerate(QUARTERS_OF_LONG) if (quarter + 1) % length == 0]


def ends_of_fives(block: Block) -> list[int]:
    """Rows of the block at which a 5m bar ends."""
    return [row for row in range(block.length) if (block.offset + row) % 5 == 4]


def closes_quarter(block: Block) -> bool:
    return block.offset + block.length == QUARTER


def high_low(bars: BarsSoFar) -> tuple[FloatArray, FloatArray]:
    return bars.extremes[HIGH], bars.extremes[NEGATED_LOW]
