"""Functions over the last values of a track, computed for the rows of a batch: each joins the row's own value to a span
of the times before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

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
    larger,
    last_in,
    put,
    smaller,
)
from app.market.tracks.spans import Span, Spans, before, prepare

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
_WITHOUT_SPAN: Final = (Over.EARLIER, Over.STREAK, Over.SINCE)

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


class Functions(NamedTuple):
    """What to compute of a track. codes: (functions,), see `Over`. lengths: (functions,), in times. spans: (functions,)
    which row of `Spans.values` is its span; any if it has none."""

    codes: IntArray
    lengths: IntArray
    spans: IntArray

    @classmethod
    def of(cls, wanted: Sequence[tuple[Over, int]], symbols: int) -> tuple[Functions, Spans]:
        """Return the functions, and the distinct spans that they need."""
        span_of = _spans_of(wanted)
        computed = list(dict.fromkeys(span_of.values()))
        spans = Spans.of(computed, symbols)
        row_of = dict(zip(computed, spans.rows.tolist(), strict=True))
        functions = cls(
            np.array([function.value for function, _ in wanted], np.int64),
            np.array([length for _, length in wanted], np.int64),
            np.array([row_of[span_of[want]] if want in span_of else 0 for want in wanted], np.int64),
        )
        return functions, spans


def span_values(wanted: Sequence[tuple[Over, int]]) -> int:
    """Return how many values of a symbol the spans of these functions are."""
    return sum(span.values for span in set(_spans_of(wanted).values()))


def _spans_of(wanted: Sequence[tuple[Over, int]]) -> dict[tuple[Over, int], Span]:
    """Return the span of each function that has one."""
    needed = {want: _span(*want) for want in wanted if want[0] not in _WITHOUT_SPAN}
    # the squares of a span come with its mean
    with_mean = {span._replace(kind=MEAN): span for span in needed.values() if span.kind == SQUARES}
    return {want: with_mean.get(span, span) for want, span in needed.items()}


def _span(function: Over, length: int) -> Span:
    kind = BLOCKS_OF[function][-1]
    if function >= Over.BAR_OPEN:
        return Span(kind, length, in_bar=True)
    return Span(kind, length if function == Over.SCORE else length - 1, in_bar=False)


@kernel
def follow(
    of: Ring, functions: Functions, spans: Spans, times: IntArray, symbols: NDArray[np.intp],
    kept: BoolArray, values: FloatArray, blocks: IntArray, out: FloatArray,
) -> None:  # fmt: skip
    """Compute the functions at every row, and take the values of the kept rows in.

    times, symbols, kept, values: (rows,), the rows of one symbol in order of time. blocks: (2, MOST_BLOCKS), scratch.
    out: (functions, rows).
    """
    first = 0
    while first < len(times):
        until, time = first + 1, times[first]
        while until < len(times) and times[until] == time:
            until += 1
        for row in range(first, until):
            if of.newest[symbols[row]] != time - 1:
                bring_to(of, symbols[row], time - 1)
        if len(spans.kinds) > 0:
            prepare(of, spans, time, symbols[first:until], blocks)
        for at in range(len(functions.codes)):
            _fill(
                of, functions.codes[at], functions.lengths[at], time, symbols[first:until],
                values[first:until], spans.values, functions.spans[at], out[at, first:until],
            )  # fmt: skip
        for row in range(first, until):
            if kept[row]:
                put(of, symbols[row], time, values[row])
        first = until


@inlined
def _fill(
    of: Ring, function: int, length: int, time: int, symbols: NDArray[np.intp], values: FloatArray,
    spans: FloatArray, span: int, out: FloatArray,
) -> None:  # fmt: skip
    """Compute one function at rows of one time. spans: (.., symbols). span: its row there."""
    if function == _EARLIER:
        source = of.cells[(time - length) % of.ring]
        for row in range(len(out)):
            out[row] = source[symbols[row]]
    elif function in (_STREAK, _SINCE):
        _search(of, function, length, time, symbols, values, out)
    elif function in (_AVERAGE, _DEVIATION, _SCORE):
        _moments(function, float(length), symbols, values, spans, span, out)
    elif function in (_BAR_OPEN, _BAR_CLOSE):
        begin = time - before(length, 1, time)
        opening = of.cells[begin % of.ring]
        opens = function == _BAR_OPEN and begin < time
        for row in range(len(out)):
            known = not math.isnan(larger(values[row], spans[span, symbols[row]]))
            out[row] = math.nan if not known else opening[symbols[row]] if opens else values[row]
    else:
        _join(function, symbols, values, spans, span, out)


@inlined
def _join(
    function: int,
    symbols: NDArray[np.intp],
    values: FloatArray,
    spans: FloatArray,
    span: int,
    out: FloatArray,
) -> None:
    if function in (_LOWEST, _ALWAYS, _BAR_LOW):
        for row in range(len(out)):
            out[row] = smaller(values[row], spans[span, symbols[row]])
    elif function in (_TOTAL, _BAR_SUM):
        for row in range(len(out)):
            out[row] = spans[span, symbols[row]] + values[row]
    else:
        for row in range(len(out)):
            out[row] = larger(values[row], spans[span, symbols[row]])


@inlined
def _moments(
    function: int, length: float, symbols: NDArray[np.intp], values: FloatArray, spans: FloatArray,
    span: int, out: FloatArray,
) -> None:  # fmt: skip
    """Join the row's value to the mean and the squares, see `spans`; a score compares it with them."""
    if function == _AVERAGE:
        for row in range(len(out)):
            mean = spans[span, symbols[row]]
            out[row] = mean + (values[row] - mean) / length
    elif function == _DEVIATION:
        weight = (length - 1.0) / length
        for row in range(len(out)):
            apart = values[row] - spans[span, symbols[row]]
            out[row] = math.sqrt((spans[span + 1, symbols[row]] + apart * apart * weight) / length)
    else:
        for row in range(len(out)):
            deviation = math.sqrt(spans[span + 1, symbols[row]] / length)
            apart = values[row] - spans[span, symbols[row]]
            out[row] = math.nan if deviation == 0.0 else apart / deviation


@inlined
def _search(
    of: Ring, function: int, length: int, time: int, symbols: NDArray[np.intp], values: FloatArray,
    out: FloatArray,
) -> None:  # fmt: skip
    for row in range(len(out)):
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
