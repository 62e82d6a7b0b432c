"""Ichimoku cloud, volume bubbles, volume surges: formations over a number of past bars of fixed length.

Ichimoku (Hosoda): conversion, base and span B are the middle of the range of the last 9, 26
and 52 bars, span A is the mean of conversion and base; the spans are drawn 26 bars ahead, so that the cloud
at a bar is the one computed 26 bars earlier. Bubble: z-score of the bar's quote volume among the bars before
it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from app.candles.batch import FloatArray, IntArray
from app.market.bars import BarsSoFar
from app.market.blocks import Block
from app.market.indicators import past_five_closes, spread_of
from app.market.layout import COUNT, HIGH, NEGATED_LOW, NO_MINUTE, OPEN, QUARTER, QUOTE
from app.market.sequences import total
from app.market.state import Columns, State, at, pick
from app.market.storage import load_prices

_CONVERSION, _BASE, _SPAN_B, _AHEAD = 9, 26, 52, 26
_BUBBLE_LEAST = 20
_BUBBLE_CHANGE = 0.001
_BUBBLE_LENGTHS: Final = np.array([[5], [15]])
_BUBBLE_SIZES: Final = np.array([[1.5, 2.5, 3.5], [1.2, 2.0, 3.0]]).T[:, :, np.newaxis, np.newaxis]
"""Least z-scores of small, medium and large, each of 5m and 15m."""
_BUBBLE_BARS_5M, _BUBBLE_BARS_15M = 60, 80
_BACK: Final = np.arange(_BUBBLE_BARS_5M, 0, -1)
_SURGE_BARS, _SURGE_MEAN_BARS = 3, 20

# Rows of table_five.
BAND_5M: Final = slice(0, 2)
BUBBLE_5M: Final = slice(2, 4)
SURGE_RATIO, SURGE_SIDE = 4, 5


def cloud_table(state: State, quarter: int, columns: Columns) -> FloatArray:
    """(6, W): high and negated low of the 8 and of the 25 bars before, span A and span B as displaced."""
    # The earliest bar of the cloud computed 26 bars ago .. the last before the current one.
    rows = (quarter - np.arange(_AHEAD + _SPAN_B - 1, 0, -1)) % state.quarter_rows
    bars = pick(state.quarter_extremes, rows, columns)
    complete = pick(state.quarter_sums[COUNT], rows, columns) == QUARTER
    bars[:, ~complete] = np.nan
    source = bars[:, :_SPAN_B]
    span_a = (_middle(source[:, -_CONVERSION:]) + _middle(source[:, -_BASE:])) / 2.0
    eight = bars[:, 1 - _CONVERSION :].max(axis=1)
    others = bars[:, 1 - _BASE :].max(axis=1)
    return np.stack((*eight, *others, span_a, _middle(source)))


def _middle(bars: FloatArray) -> FloatArray:
    extremes = bars.max(axis=1)
    middle: FloatArray = (extremes[HIGH] - extremes[NEGATED_LOW]) / 2.0
    return middle


def ichimoku(state: State, block: Block, bars: BarsSoFar) -> tuple[FloatArray, ...]:
    """Conversion, base, span A and B, each of a shape that fits (T, W); null unless every bar it stands on
    is complete, the current one so far."""
    table = at(state.table_cloud, block.columns)[:, np.newaxis]
    current = np.where(bars.complete[2], bars.extremes[:, 2], np.nan)
    conversion = np.maximum(table[0:2], current)
    base = np.maximum(table[2:4], current)
    return (
        (conversion[HIGH] - conversion[NEGATED_LOW]) / 2.0,
        (base[HIGH] - base[NEGATED_LOW]) / 2.0,
        table[4],
        table[5],
    )


def mean_and_deviation(volumes: FloatArray) -> FloatArray:
    """(2, ...): mean and population standard deviation over axis 0 of what is not NaN, NaN for fewer than
    20."""
    absent = np.isnan(volumes)
    some_absent = absent.any()
    count = len(volumes) - absent.sum(axis=0) if some_absent else np.full(volumes.shape[1:], len(volumes))
    mean = total(np.where(absent, 0.0, volumes) if some_absent else volumes) / count
    squares = volumes - mean
    if some_absent:
        squares[absent] = 0.0
    squares *= squares
    deviation = np.sqrt(total(squares) / count)
    deviation[(count < _BUBBLE_LEAST) | (deviation == 0.0)] = np.nan
    return np.stack((mean, deviation))


def bubble_table_15m(state: State, quarter: int, columns: Columns) -> FloatArray:
    """(2, W): mean and deviation of the quote volumes of the 15m bars before `quarter`."""
    rows = (quarter - np.arange(_BUBBLE_BARS_15M, 0, -1)) % state.quarter_rows
    sums = pick(state.quarter_sums[: COUNT + 1], rows, columns)
    return mean_and_deviation(np.where(sums[COUNT] == QUARTER, sums[QUOTE], np.nan))


def _five_tables(state: State, numbers: IntArray, columns: Columns) -> FloatArray:
    """(6, F, W): for the 5m bars of these numbers, in order, what the bars before each of them tell.

    The last is kept in `table_five`, for the frames that still lie in that bar.
    """
    if len(numbers) == 1 and (state.five_bar[columns] == numbers[0]).all():
        return at(state.table_five, columns)[:, np.newaxis]
    volumes = pick(state.fives, (numbers - _BACK[:, np.newaxis]) % state.five_rows, columns)
    closes = past_five_closes(state, numbers, columns)
    tables = np.empty((6, *volumes.shape[1:]))
    tables[BAND_5M] = spread_of(closes)
    tables[BUBBLE_5M] = mean_and_deviation(volumes)
    tables[SURGE_RATIO:] = _surge(volumes, closes)
    state.table_five[:, columns] = tables[:, -1]
    # A symbol that has not come so far yet may still change what the table stands on.
    come_so_far = state.newest[columns] >= numbers[-1] * 5 - 1
    state.five_bar[columns] = np.where(come_so_far, numbers[-1], NO_MINUTE)
    return tables


def _surge(volumes: FloatArray, closes: FloatArray) -> FloatArray:
    """(2, ...): ratio and side of the last three of these 5m bars, oldest first."""
    past = volumes[-_SURGE_BARS - _SURGE_MEAN_BARS : -_SURGE_BARS]
    mean = total(past) / _SURGE_MEAN_BARS
    ratio = volumes[-_SURGE_BARS:].min(axis=0) / mean
    ratio[mean == 0.0] = np.nan
    steps = np.sign(np.diff(closes[-_SURGE_BARS:], axis=0))
    side = np.where((steps == 1.0).all(axis=0), 1.0, np.where((steps == -1.0).all(axis=0), -1.0, 0.0))
    side[np.isnan(ratio)] = np.nan
    return np.stack((ratio, side))


def fives_of(state: State, block: Block, closed: bool) -> tuple[FloatArray, FloatArray]:
    """The 5m table of the bar of each minute, (6, T, W), and the surge columns at it, (2, T, W).

    A bar that closes at its minute already counts among the three of the surge.
    """
    minutes = np.arange(block.first, block.last + 1)
    numbers = minutes // 5
    after = (minutes + 1) // 5 if closed else numbers
    first = numbers[0]
    tables = _five_tables(state, np.arange(first, after[-1] + 1), block.columns)
    return tables[:, numbers - first], tables[SURGE_RATIO:, after - first]


def bubbles(
    state: State, block: Block, heads: FloatArray, fives: FloatArray, bars: BarsSoFar
) -> tuple[FloatArray, ...]:
    """Of the 5m and then the 15m bar so far z-score, size 0..3 and side, (T, W) each; all null while z is.

    heads: the quarter's sums to each minute. fives: the 5m table of the bar of each minute.
    """
    z = np.empty((2, *block.close.shape))
    of_five, of_quarter = fives[BUBBLE_5M], at(state.table_bubble, block.columns)
    np.subtract(bars.five_quote, of_five[0], out=z[0])
    np.subtract(heads[QUOTE], of_quarter[0], out=z[1])
    z[0] /= of_five[1]
    z[1] /= of_quarter[1]
    complete = bars.complete[1:3]
    if not complete.all():
        z[~complete] = np.nan
    change = block.close / _opens(state, block)
    change -= 1.0
    size = (z >= _BUBBLE_SIZES).sum(axis=0, dtype=np.float64)
    size *= np.abs(change) >= _BUBBLE_CHANGE
    side = np.sign(change)
    side *= size > 0.0
    zero_or_null = z - z
    size += zero_or_null
    side += zero_or_null
    return z[0], size[0], side[0], z[1], size[1], side[1]


def _opens(state: State, block: Block) -> FloatArray:
    """(2, T, W): opening price of the 5m and of the 15m bar of each minute."""
    minutes = np.arange(block.first, block.last + 1)
    starts = minutes - minutes % _BUBBLE_LENGTHS
    opens = load_prices(state, OPEN, starts, block.columns)
    # A forming minute is not in the rings; the bar may begin with it.
    begins = starts[:, -1] == block.last
    if begins.any():
        opens[begins, -1] = block.open[-1]
    return opens
