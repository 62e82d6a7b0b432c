"""Rings of values with aligned blocks above them.

`cells` is (rows, symbols). Rows 0 .. ring - 1 are the values, of time t in row t % ring. Each kind of block a track has
follows with its levels: level k has a row for every 2**k times, of the block number t >> k in row
(t >> k) % (ring >> k); the ring is a multiple of the largest block.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from app.candles.batch import FloatArray, IntArray
from app.compiled import inlined

LARGEST, SMALLEST, SUM, MEAN, SQUARES = range(5)
"""Kinds of blocks. SQUARES: of the deviations from the block's mean; a track that has them has MEAN."""
BLOCK_KINDS: Final = 5
ABSENT: Final = -1
NO_TIME: Final = -(1 << 40)


class Ring(NamedTuple):
    """cells: see the module. newest: (symbols,) the newest time in the rows. firsts: (BLOCK_KINDS,) first row of
    level 1 of each kind, or ABSENT. levels: how many are above the values. unknown: the value of a time without
    one."""

    cells: FloatArray
    newest: IntArray
    firsts: IntArray
    ring: int
    levels: int
    unknown: float


@inlined
def block_row(of: Ring, kind: int, level: int, number: int) -> int:
    """Return the row of a block; at level 0, of a value."""
    if level == 0:
        return number % of.ring
    return int(of.firsts[kind]) + of.ring - (of.ring >> (level - 1)) + number % (of.ring >> level)


@inlined
def larger(a: float, b: float) -> float:
    """Return the larger number, NaN if one of them is NaN."""
    return b if b > a or math.isnan(b) else a


@inlined
def smaller(a: float, b: float) -> float:
    return b if b < a or math.isnan(b) else a


@inlined
def _renew(of: Ring, i: int, level: int, number: int) -> None:
    """Compute a block from the two below it."""
    cells, half = of.cells, float(1 << (level - 1))
    for kind in range(BLOCK_KINDS):
        if of.firsts[kind] == ABSENT:
            continue
        row = block_row(of, kind, level, number)
        first = block_row(of, kind, level - 1, 2 * number)
        second = block_row(of, kind, level - 1, 2 * number + 1)
        a, b = cells[first, i], cells[second, i]
        if kind == LARGEST:
            cells[row, i] = larger(a, b)
        elif kind == SMALLEST:
            cells[row, i] = smaller(a, b)
        elif kind == SUM:
            cells[row, i] = a + b
        elif kind == MEAN:
            cells[row, i] = a + (b - a) * 0.5
        else:
            apart = (
                cells[block_row(of, MEAN, level - 1, 2 * number + 1), i]
                - cells[block_row(of, MEAN, level - 1, 2 * number), i]
            )
            below = 0.0 if level == 1 else a + b
            cells[row, i] = below + apart * apart * half * 0.5


@inlined
def _put_next(of: Ring, i: int, time: int, value: float) -> None:
    """Put the value of the time after the newest; complete the blocks that end with it."""
    of.newest[i] = time
    of.cells[time % of.ring, i] = value
    level = 1
    while level <= of.levels and (time + 1) & ((1 << level) - 1) == 0:
        _renew(of, i, level, time >> level)
        level += 1


@inlined
def bring_to(of: Ring, i: int, time: int) -> None:
    """Make the rows reach up to a time; times between without a value are unknown."""
    newest = of.newest[i]
    if newest == NO_TIME:
        # the rows are unknown throughout
        of.newest[i] = time
    elif newest < time:
        for skipped in range(max(newest + 1, time - of.ring + 1), time + 1):
            _put_next(of, i, skipped, of.unknown)


@inlined
def put(of: Ring, i: int, time: int, value: float) -> None:
    """Put a value; one that the ring no longer holds is ignored."""
    bring_to(of, i, time - 1)
    newest = of.newest[i]
    if time > newest:
        _put_next(of, i, time, value)
    elif time > newest - of.ring:
        of.cells[time % of.ring, i] = value
        for level in range(1, of.levels + 1):
            number = time >> level
            if ((number + 1) << level) - 1 <= newest:
                _renew(of, i, level, number)


@inlined
def window_blocks(of: Ring, kind: int, begin: int, end: int, rows: IntArray, sizes: IntArray) -> int:
    """List the blocks of the times from `begin` to before `end`: their rows and sizes; return how many they are."""
    used, level = 0, 0
    while begin < end:
        if level == of.levels:
            for number in range(begin, end):
                rows[used], sizes[used] = block_row(of, kind, level, number), 1 << level
                used += 1
            return used
        if begin & 1:
            rows[used], sizes[used] = block_row(of, kind, level, begin), 1 << level
            used += 1
            begin += 1
        if end & 1:
            end -= 1
            rows[used], sizes[used] = block_row(of, kind, level, end), 1 << level
            used += 1
        begin, end, level = begin >> 1, end >> 1, level + 1
    return used


@inlined
def last_in(of: Ring, i: int, low: int, high: int, kind: int, limit: float) -> int:
    """Return the last time from `low` to `high` whose value is at least the limit (kind LARGEST), or below it
    (SMALLEST); NO_TIME if there is none."""
    time = high
    while time >= low:
        level = 0
        if _hits(of.cells[time % of.ring, i], kind, limit):
            return time
        while level < of.levels:
            above = level + 1
            begins = time - (1 << above) + 1
            if begins < low or (time + 1) & ((1 << above) - 1) != 0:
                break
            if _hits(of.cells[block_row(of, kind, above, time >> above), i], kind, limit):
                break
            level = above
        time -= 1 << level
    return NO_TIME


@inlined
def _hits(value: float, kind: int, limit: float) -> bool:
    return value >= limit if kind == LARGEST else value < limit
