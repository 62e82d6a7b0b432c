"""Functions over the last values of a track, computed for the rows of a batch."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import BoolArray, FloatArray, IntArray
from app.compiled import inlined, kernel
from app.market.tracks.blocks import (
    LARGEST,
    MEAN,
    NO_TIME,
    SMALLEST,
    SQUARES,
    SUM,
    Ring,
    bring_to,
    last_in,
    put_all,
    window_blocks,
)

MOST_BLOCKS: Final = 64
"""More than any window is made of."""
UNKNOWN: Final = 0.5
"""The value of a condition that is null; 1 is true, 0 is false."""


class Over(IntEnum):
    """What is computed of a row's value x and the `n` times that end with the row's, or, for EARLIER and SCORE, the `n`
    times before it.

    WITHIN, ALWAYS, STREAK, SINCE: of conditions as 0, UNKNOWN, 1. BAR_*: over the minutes of the row's clock-aligned
    bar of `n` minutes so far; null if one of them is unknown.
    """

    EARLIER = 0
    HIGHEST = 1
    LOWEST = 2
    TOTAL = 3
    AVERAGE = 4
    DEVIATION = 5
    SCORE = 6
    WITHIN = 7
    ALWAYS = 8
    STREAK = 9
    SINCE = 10
    BAR_OPEN = 11
    BAR_HIGH = 12
    BAR_LOW = 13
    BAR_CLOSE = 14
    BAR_SUM = 15


BLOCKS_OF: Final[dict[Over, tuple[int, ...]]] = {
    Over.EARLIER: (),
    Over.HIGHEST: (LARGEST,),
    Over.LOWEST: (SMALLEST,),
    Over.TOTAL: (SUM,),
    Over.AVERAGE: (MEAN,),
    Over.DEVIATION: (MEAN, SQUARES),
    Over.SCORE: (MEAN, SQUARES),
    Over.WITHIN: (LARGEST,),
    Over.ALWAYS: (SMALLEST,),
    Over.STREAK: (SMALLEST,),
    Over.SINCE: (LARGEST,),
    Over.BAR_OPEN: (LARGEST,),
    Over.BAR_HIGH: (LARGEST,),
    Over.BAR_LOW: (SMALLEST,),
    Over.BAR_CLOSE: (LARGEST,),
    Over.BAR_SUM: (SUM,),
}
"""Function -> the kinds of blocks that it is computed from."""

_EARLIER, _HIGHEST, _LOWEST, _TOTAL = (
    Over.EARLIER.value,
    Over.HIGHEST.value,
    Over.LOWEST.value,
    Over.TOTAL.value,
)
_AVERAGE, _DEVIATION, _SCORE = Over.AVERAGE.value, Over.DEVIATION.value, Over.SCORE.value
_WITHIN, _ALWAYS, _STREAK, _SINCE = (
    Over.WITHIN.value,
    Over.ALWAYS.value,
    Over.STREAK.value,
    Over.SINCE.value,
)
_BAR_OPEN, _BAR_HIGH, _BAR_LOW = Over.BAR_OPEN.value, Over.BAR_HIGH.value, Over.BAR_LOW.value
_BAR_CLOSE, _BAR_SUM = Over.BAR_CLOSE.value, Over.BAR_SUM.value
_FIRST_OF_BAR: Final = _BAR_OPEN


@kernel
def follow(
    of: Ring, functions: IntArray, lengths: IntArray, times: IntArray, symbols: NDArray[np.intp],
    kept: BoolArray, values: FloatArray, scratch: IntArray, mean: FloatArray, out: FloatArray,
) -> None:  # fmt: skip
    """Compute the functions at every row, and take the values of the kept rows in.

    times, symbols, kept, values: (rows,), the rows of one symbol in order of time. functions, lengths: (functions,),
    see `Over`. scratch: (2, MOST_BLOCKS). mean: (rows,), scratch. out: (functions, rows).
    """
    first = 0
    while first < len(times):
        until, time = first + 1, times[first]
        while until < len(times) and times[until] == time:
            until += 1
        for row in range(first, until):
            if of.newest[symbols[row]] != time - 1:
                bring_to(of, symbols[row], time - 1)
        for at in range(len(functions)):
            function, length = functions[at], lengths[at]
            if function == _EARLIER:
                source = of.cells[(time - length) % of.ring]
                for row in range(first, until):
                    out[at, row] = source[symbols[row]]
            elif function in (_STREAK, _SINCE):
                _search(of, function, length, time, symbols, values, first, until, out[at])
            else:
                _window(
                    of, function, length, time, symbols, values, first, until,
                    scratch[0], scratch[1], mean, out[at],
                )  # fmt: skip
        put_all(of, times, symbols, kept, values, first, until)
        first = until


@inlined
def _search(
    of: Ring, function: int, length: int, time: int, symbols: NDArray[np.intp], values: FloatArray,
    first: int, until: int, out: FloatArray,
) -> None:  # fmt: skip
    for row in range(first, until):
        value = values[row]
        if function == _STREAK:
            if value == 1.0:
                low = time - length + 1
                last = last_in(of, symbols[row], low, time - 1, SMALLEST, 1.0)
                out[row] = float(length if last == NO_TIME else time - last)
            else:
                out[row] = 0.0 if value == 0.0 else math.nan
        elif value == 1.0:
            out[row] = 0.0
        else:
            last = last_in(of, symbols[row], time - length, time - 1, LARGEST, 1.0)
            out[row] = math.nan if last == NO_TIME else float(time - last)


@inlined
def _window(
    of: Ring, function: int, length: int, time: int, symbols: NDArray[np.intp], values: FloatArray,
    first: int, until: int, rows: IntArray, sizes: IntArray, mean: FloatArray, out: FloatArray,
) -> None:  # fmt: skip
    begin = time - time % length if function >= _FIRST_OF_BAR else time - length + 1
    if function in (_HIGHEST, _WITHIN, _BAR_HIGH):
        used = window_blocks(of, LARGEST, begin, time, rows, sizes)
        _largest(of, symbols, values, first, until, rows, used, out)
    elif function in (_LOWEST, _ALWAYS, _BAR_LOW):
        used = window_blocks(of, SMALLEST, begin, time, rows, sizes)
        _smallest(of, symbols, values, first, until, rows, used, out)
    elif function in (_TOTAL, _BAR_SUM):
        used = window_blocks(of, SUM, begin, time, rows, sizes)
        _sum(of, symbols, values, first, until, rows, used, out)
    elif function in (_BAR_OPEN, _BAR_CLOSE):
        used = window_blocks(of, LARGEST, begin, time, rows, sizes)
        _largest(of, symbols, values, first, until, rows, used, out)
        opening = of.cells[begin % of.ring]
        for row in range(first, until):
            if not math.isnan(out[row]):
                opens = function == _BAR_OPEN and begin < time
                out[row] = opening[symbols[row]] if opens else values[row]
    elif function == _SCORE:
        used = window_blocks(of, MEAN, time - length, time, rows, sizes)
        _moments(of, symbols, values, first, until, rows, sizes, used, 0, True, mean, out)
        for row in range(first, until):
            deviation = math.sqrt(out[row] / length)
            out[row] = math.nan if deviation == 0.0 else (values[row] - mean[row]) / deviation
    else:
        used = window_blocks(of, MEAN, begin, time, rows, sizes)
        _moments(of, symbols, values, first, until, rows, sizes, used, 1, function == _DEVIATION, mean, out)
        for row in range(first, until):
            out[row] = mean[row] if function == _AVERAGE else math.sqrt(out[row] / length)


@inlined
def _largest(
    of: Ring, symbols: NDArray[np.intp], values: FloatArray, first: int, until: int,
    rows: IntArray, used: int, out: FloatArray,
) -> None:  # fmt: skip
    for row in range(first, until):
        out[row] = values[row]
    for at in range(used):
        source = of.cells[rows[at]]
        for row in range(first, until):
            value = source[symbols[row]]
            if value > out[row] or math.isnan(value):
                out[row] = value


@inlined
def _smallest(
    of: Ring, symbols: NDArray[np.intp], values: FloatArray, first: int, until: int,
    rows: IntArray, used: int, out: FloatArray,
) -> None:  # fmt: skip
    for row in range(first, until):
        out[row] = values[row]
    for at in range(used):
        source = of.cells[rows[at]]
        for row in range(first, until):
            value = source[symbols[row]]
            if value < out[row] or math.isnan(value):
                out[row] = value


@inlined
def _sum(
    of: Ring, symbols: NDArray[np.intp], values: FloatArray, first: int, until: int,
    rows: IntArray, used: int, out: FloatArray,
) -> None:  # fmt: skip
    for row in range(first, until):
        out[row] = values[row]
    for at in range(used):
        source = of.cells[rows[at]]
        for row in range(first, until):
            out[row] += source[symbols[row]]


@inlined
def _moments(
    of: Ring, symbols: NDArray[np.intp], values: FloatArray, first: int, until: int,
    rows: IntArray, sizes: IntArray, used: int, known: int, squares: bool, mean: FloatArray, out: FloatArray,
) -> None:  # fmt: skip
    """Compute the mean and, in `out`, the squared deviations. known: 1 if the row's own value counts, else 0.

    The block with `size` values is joined to those before without cancellation: mean += apart * size / count, and
    squares += apart**2 * before * size / count.
    """
    below = of.firsts[SQUARES] - of.firsts[MEAN]
    for row in range(first, until):
        mean[row], out[row] = values[row], 0.0
    count = float(known)
    for at in range(used):
        size = float(sizes[at])
        source = of.cells[rows[at]]
        total = count + size
        share, weight = size / total, count * size / total
        if squares and sizes[at] > 1:
            added = of.cells[rows[at] + below]
            for row in range(first, until):
                out[row] += added[symbols[row]]
        for row in range(first, until):
            value = source[symbols[row]]
            apart = value - mean[row]
            mean[row] = value if count == 0.0 else mean[row] + apart * share
            if squares and count > 0.0:
                out[row] += apart * apart * weight
        count = total
