"""Values over the times before a row's own: what every window over that time shares, computed once for each symbol.

A symbol's spans hold while its rows are of the same time: all forming updates of a minute, and the close that follows
them, join their own value to them. A late row moves the spans to its own time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import FloatArray, IntArray
from app.compiled import inlined, prefetch
from app.market.tracks.blocks import (
    LARGEST,
    MEAN,
    NO_TIME,
    SMALLEST,
    SQUARES,
    Ring,
    larger,
    smaller,
    window_blocks,
)

MOST_BLOCKS: Final = 64
"""More than any span is made of."""
_ALL_FROM: Final = 4
"""If one symbol in so many needs its spans, they are computed for all: neighbours in memory cost little."""


class Span(NamedTuple):
    """kind: of the blocks; SQUARES has the mean too. length: how many times before the row's, or, if `in_bar`, those of
    the clock-aligned bar of so many times that are before it."""

    kind: int
    length: int
    in_bar: bool

    @property
    def values(self) -> int:
        """How many values it is."""
        return 2 if self.kind == SQUARES else 1


class Spans(NamedTuple):
    """Distinct spans and their values.

    kinds, lengths, in_bar: (spans,), see `Span`. rows: (spans,) the row in `values`; the row after a mean has its
    squares. values: (rows, symbols). times: (symbols,) the time before which the values are, or NO_TIME.
    """

    kinds: IntArray
    lengths: IntArray
    in_bar: IntArray
    rows: IntArray
    values: FloatArray
    times: IntArray

    @classmethod
    def of(cls, spans: Sequence[Span], symbols: int) -> Spans:
        ends = np.cumsum([0, *(span.values for span in spans)])
        return cls(
            np.array([span.kind for span in spans], np.int64),
            np.array([span.length for span in spans], np.int64),
            np.array([span.in_bar for span in spans], np.int64),
            ends[:-1].astype(np.int64),
            np.empty((int(ends[-1]), symbols)),
            np.full(symbols, NO_TIME, np.int64),
        )

    def with_room(self, symbols: int) -> Spans:
        """Return the same spans with room for other symbols; no value is known."""
        return self._replace(
            values=np.empty((len(self.values), symbols)), times=np.full(symbols, NO_TIME, np.int64)
        )


@inlined
def before(length: int, in_bar: int, time: int) -> int:
    """Return how many times a span has before a time."""
    return time % length if in_bar else length


@inlined
def prepare(of: Ring, spans: Spans, time: int, symbols: NDArray[np.intp], blocks: IntArray) -> None:
    """Compute the spans before a time for these symbols, whose rows reach up to it, where they are not known.

    blocks: (2, MOST_BLOCKS), scratch.
    """
    lacking = 0
    for row in range(len(symbols)):
        lacking += spans.times[symbols[row]] != time
    if lacking == 0:
        return
    if lacking * _ALL_FROM >= len(spans.times):
        _compute(of, spans, time, 0, len(spans.times), blocks)
        for i in range(len(spans.times)):
            if spans.times[i] != time:
                spans.times[i] = time if of.newest[i] == time - 1 else NO_TIME
        for row in range(len(symbols)):
            spans.times[symbols[row]] = time
        return
    row = 0
    while row < len(symbols):
        low = symbols[row]
        high = low
        while row < len(symbols) and symbols[row] == high and spans.times[high] != time:
            spans.times[high] = time
            high += 1
            row += 1
        if high > low:
            _compute(of, spans, time, low, high, blocks)
        else:
            row += 1


@inlined
def _compute(of: Ring, spans: Spans, time: int, low: int, high: int, blocks: IntArray) -> None:
    """Compute the spans before a time for the symbols from `low` to before `high`."""
    rows, sizes = blocks[0], blocks[1]
    below = of.firsts[SQUARES] - of.firsts[MEAN]
    for span in range(len(spans.kinds)):
        kind = spans.kinds[span]
        begin = time - before(spans.lengths[span], spans.in_bar[span], time)
        ring_kind = MEAN if kind == SQUARES else kind
        used = window_blocks(of, ring_kind, begin, time, rows, sizes)
        out = spans.values[spans.rows[span], low:high]
        if kind == SQUARES:
            squares = spans.values[spans.rows[span] + 1, low:high]
            _join_squares(of, below, rows, sizes, used, low, high, out, squares)
        elif kind == MEAN:
            _join_means(of, rows, sizes, used, low, high, out)
        else:
            _join(of, kind, rows, used, low, high, out)


@inlined
def _ask_for(of: Ring, row: int, low: int, high: int) -> None:
    """Ask for the memory of the block that is joined next."""
    first = row * of.cells.shape[1]
    for byte in range((first + low) * 8, (first + high) * 8, 64):
        prefetch(of.cells, byte)


@inlined
def _join(of: Ring, kind: int, rows: IntArray, used: int, low: int, high: int, out: FloatArray) -> None:
    out[:] = -math.inf if kind == LARGEST else math.inf if kind == SMALLEST else 0.0
    for at in range(used):
        if at + 1 < used:
            _ask_for(of, rows[at + 1], low, high)
        source = of.cells[rows[at], low:high]
        if kind == LARGEST:
            for i in range(len(out)):
                out[i] = larger(out[i], source[i])
        elif kind == SMALLEST:
            for i in range(len(out)):
                out[i] = smaller(out[i], source[i])
        else:
            for i in range(len(out)):
                out[i] += source[i]


@inlined
def _join_means(
    of: Ring, rows: IntArray, sizes: IntArray, used: int, low: int, high: int, mean: FloatArray
) -> None:
    count = 0.0
    mean[:] = 0.0
    for at in range(used):
        size = float(sizes[at])
        count += size
        share = size / count
        if at + 1 < used:
            _ask_for(of, rows[at + 1], low, high)
        source = of.cells[rows[at], low:high]
        for i in range(len(mean)):
            mean[i] += (source[i] - mean[i]) * share


@inlined
def _join_squares(
    of: Ring, below: int, rows: IntArray, sizes: IntArray, used: int, low: int, high: int,
    mean: FloatArray, squares: FloatArray,
) -> None:  # fmt: skip
    """Compute the mean and the squared deviations from it.

    A block with `size` values is joined to the `count` before without cancellation: mean += apart * size / (count +
    size), and squares += apart**2 * count * size / (count + size).
    """
    count = 0.0
    mean[:], squares[:] = 0.0, 0.0
    for at in range(used):
        size = float(sizes[at])
        total = count + size
        share, weight = size / total, count * size / total
        if at + 1 < used:
            _ask_for(of, rows[at + 1], low, high)
            _ask_for(of, rows[at + 1] + below, low, high)
        source = of.cells[rows[at], low:high]
        if sizes[at] > 1:
            added = of.cells[rows[at] + below, low:high]
            for i in range(len(mean)):
                apart = source[i] - mean[i]
                mean[i] += apart * share
                squares[i] += added[i] + apart * apart * weight
        else:
            for i in range(len(mean)):
                apart = source[i] - mean[i]
                mean[i] += apart * share
                squares[i] += apart * apart * weight
        count = total
