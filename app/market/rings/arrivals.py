"""What the rows of a batch mean for the state: repeated, forming, late, corrected, or just the next minute."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import BoolArray, IntArray
from app.compiled import allocating_kernel, inlined
from app.market.rings.head import now_of
from app.market.rings.layout import NO_MINUTE
from app.market.rings.records import STEP, Candle, Records, Rings, Symbol, record_type
from app.market.rings.rewrite import differs, rewrite

FORMING, CLOSED, REVISED = 0, 1, 2
"""Kinds of steps: a forming candle; the closed candle of a minute after the newest; a known minute after which, or at
which, a closed candle came late or again."""


class Counts:
    """Candles since the matrix was made.

    corrections: closed candles that differ from what was known of their minute. duplicates: closed candles
    that do not. late: closed candles, until then unknown, of a minute before the symbol's newest closed one.
    merged_forming: forming candles superseded by a later one of the same minute in their batch.
    stale_forming: forming candles of a minute at or before the symbol's newest closed one.
    """

    corrections: int
    duplicates: int
    late: int
    merged_forming: int
    stale_forming: int


_COUNTS: Final = record_type(Counts)


class Counters(Counts):
    """Reads the counts that the kernels keep."""

    def __init__(self) -> None:
        self.counts: Records = np.zeros(1, _COUNTS)

    def __getattr__(self, name: str) -> int:
        return int(self.counts[name][0])

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in _COUNTS.names or ()}


@allocating_kernel
def sort_out(
    rings: Rings, candles: Records, arrival: NDArray[np.intp], horizon: int, counts: Records
) -> tuple[Records, bool]:
    """Write late and corrected candles into the rings; return the rows to compute, by symbol and time, and whether
    that is their order by minute, symbol, and forming before closed.

    candles: by column, minute, closed, arrival. arrival: (candles,), each one's place in the order of arrival. horizon:
    minutes before a symbol's newest at which a late candle still leads to rows for every minute since.
    """
    steps = np.empty(len(candles) + _most_revised(rings, candles, horizon), STEP)
    fresh = np.empty(len(candles), np.bool_)
    if _asks_for_fresh(rings, candles):
        arrived, newest = np.empty(len(candles), np.intp), np.empty(len(rings.symbols), np.int64)
        _put_fresh(rings, candles, arrival, arrived, newest, fresh)
    used = _put_steps(rings, candles, arrival, fresh, horizon, counts[0], steps)
    steps = steps[:used]
    return steps, _in_order(steps)


@inlined
def _most_revised(rings: Rings, candles: Records, horizon: int) -> int:
    """Return how many steps late and corrected candles can lead to."""
    most, last = 0, -1
    for at in range(len(candles)):
        candle: Candle = candles[at]
        if candle.column != last and candle.closed and candle.minute <= rings.symbols[candle.column].newest:
            most += horizon + 1
            last = candle.column
    return most


@inlined
def _asks_for_fresh(rings: Rings, candles: Records) -> bool:
    """Return whether a forming candle comes too late, or with others of its symbol."""
    for at in range(len(candles)):
        candle: Candle = candles[at]
        if not candle.closed and (
            candle.minute <= rings.symbols[candle.column].newest
            or (at > 0 and candles[at - 1].column == candle.column)
            or (at + 1 < len(candles) and candles[at + 1].column == candle.column)
        ):
            return True
    return False


@inlined
def _put_steps(
    rings: Rings, candles: Records, arrival: NDArray[np.intp], fresh: BoolArray, horizon: int,
    counts: Counts, steps: Records,
) -> int:  # fmt: skip
    """Put the steps where there is room for them; return how many they are."""
    used, at = 0, 0
    while at < len(candles):
        candle, stop = candles[at], at + 1
        while stop < len(candles) and candles[stop].column == candle.column:
            stop += 1
        if stop == at + 1 and candle.minute > rings.symbols[candle.column].newest:
            used = _append(
                steps, used, candle.column, candle.minute, at, CLOSED if candle.closed else FORMING
            )
        else:
            used = _of_symbol(rings, candles, at, stop, arrival, fresh, horizon, counts, steps, used)
        at = stop
    return used


@inlined
def _in_order(steps: Records) -> bool:
    for k in range(1, len(steps)):
        before, step = steps[k - 1], steps[k]
        if before.minute > step.minute or (before.minute == step.minute and before.column > step.column):
            return False
    return True


@inlined
def _put_fresh(
    rings: Rings, candles: Records, arrival: NDArray[np.intp],
    arrived: NDArray[np.intp], newest: IntArray, fresh: BoolArray,
) -> None:  # fmt: skip
    """Set in `fresh` whether a candle's minute is after the symbol's newest closed one when it arrives.

    arrived, newest: scratch, of the candles and of the symbols.
    """
    for at in range(len(candles)):
        arrived[arrival[at]] = at
    for at in arrived:
        newest[candles[at].column] = rings.symbols[candles[at].column].newest
    for at in arrived:
        candle = candles[at]
        fresh[at] = candle.minute > newest[candle.column]
        if candle.closed and fresh[at]:
            newest[candle.column] = candle.minute


@inlined
def _of_symbol(
    rings: Rings, candles: Records, first: int, until: int, arrival: NDArray[np.intp], fresh: BoolArray,
    horizon: int, counts: Counts, steps: Records, used: int,
) -> int:  # fmt: skip
    """Put the steps for the candles of one symbol after those that are there; return how many there are then."""
    column = candles[first].column
    newest = rings.symbols[column].newest
    since, cause, at = newest, -1, first
    while at < until:
        minute, stop = candles[at].minute, at + 1
        while stop < until and candles[stop].minute == minute:
            stop += 1
        forming, closed = _last_of_minute(rings, candles, at, stop, fresh, counts)
        at = stop
        if closed >= 0 and minute <= newest:
            rewrite(rings, column, minute, now_of(candles[closed]))
            if cause < 0 or arrival[closed] > arrival[cause]:
                cause = closed
            if minute >= newest - horizon:
                since = min(since, minute)
            closed = -1
        if cause >= 0 and (minute > newest or at == until):
            used = _revised(rings, column, since, cause, steps, used)
            cause = -1
        if forming >= 0:
            used = _append(steps, used, column, minute, forming, FORMING)
        if closed >= 0:
            used = _append(steps, used, column, minute, closed, CLOSED)
    return used


@inlined
def _revised(rings: Rings, column: int, since: int, cause: int, steps: Records, used: int) -> int:
    """Put a step for every known minute from `since` on."""
    for minute in range(since, rings.symbols[column].newest + 1):
        if rings.known[column, minute % rings.known.shape[1]] == 1:
            used = _append(steps, used, column, minute, cause, REVISED)
    return used


@inlined
def _append(steps: Records, used: int, column: int, minute: int, candle: int, kind: int) -> int:
    """Put a step after those that are there; return how many there are then."""
    step = steps[used]
    step.column, step.minute, step.candle, step.kind = column, minute, candle, kind
    return used + 1


@inlined
def _last_of_minute(
    rings: Rings, candles: Records, first: int, stop: int, fresh: BoolArray, counts: Counts
) -> tuple[int, int]:
    """Return the last forming candle of a minute that is not stale, and its last closed one if that changes the known
    minute; -1 if there is none."""
    forming, closed, changed = -1, -1, False
    for at in range(first, stop):
        if candles[at].closed:
            changed = _changes(rings, candles, at, closed, counts) or changed
            closed = at
        elif not fresh[at]:
            counts.stale_forming += 1
        else:
            if forming >= 0:
                counts.merged_forming += 1
            forming = at
    return forming, closed if changed else -1


@inlined
def _changes(rings: Rings, candles: Records, at: int, before: int, counts: Counts) -> bool:
    """Return whether a closed candle adds or changes a minute: compared with the candle `before` it, or if -1 with
    the known minute."""
    candle: Candle = candles[at]
    symbol: Symbol = rings.symbols[candle.column]
    rows = rings.known.shape[1]
    if symbol.newest != NO_MINUTE and candle.minute <= symbol.newest - rows:
        counts.late += 1
        return False
    now = now_of(candle)
    if before >= 0:
        changes = now != now_of(candles[before])
    elif candle.minute > symbol.newest:
        return True
    elif rings.known[candle.column, candle.minute % rows] != 1:
        counts.late += 1
        return True
    else:
        changes = differs(rings, candle.column, candle.minute, now)
    if changes:
        counts.corrections += 1
    else:
        counts.duplicates += 1
    return changes
