"""What a block is evaluated against besides the tables: its quarter so far, and the minutes before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.candles.batch import FloatArray
from app.market.blocks import Block
from app.market.sequences import running
from app.market.state import State
from app.market.storage import load

LOOKBACK: Final = 9
"""Minutes before a block: what its 5m window, and the 5m before that one, reach back."""

Heads = tuple[FloatArray, FloatArray]
"""Sums and extremes of a quarter."""


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """heads, head_extremes: sums (4, T, W) and extremes (2, T, W) of the quarter from its start to each
    minute. past: (planes, 9, W), past_extremes: (2, 9, W) or None, of the nine minutes before the block,
    oldest first.
    """

    heads: FloatArray
    head_extremes: FloatArray
    past: FloatArray
    past_extremes: FloatArray | None


def surroundings_of(
    state: State, block: Block, heads: Heads, sum_planes: int, extremes: bool
) -> Surroundings:
    """heads: what `running_totals` gave."""
    minutes = np.arange(block.first - LOOKBACK, block.first)
    return Surroundings(*heads, *load(state, minutes, block.columns, sum_planes, extremes))


def running_totals(block: Block, before: Heads | None) -> Heads:
    """Sums (4, T, W) and extremes (2, T, W) of the block's quarter from its start to each minute.

    before: those (4, W) and (2, W) of the quarter's minutes before the block; None at its start.
    """
    if before is None:
        return running(np.add, block.sums), running(np.maximum, block.extremes)
    sums = block.sums.copy()
    sums[:, 0] += before[0]
    extremes = block.extremes.copy()
    np.maximum(extremes[:, 0], before[1], out=extremes[:, 0])
    return running(np.add, sums, out=sums), running(np.maximum, extremes, out=extremes)
