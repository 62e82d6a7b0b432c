"""What the rows of a batch mean for the state: repeated, forming, late, corrected, or just the next
minute."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import BoolArray, IntArray
from app.market.blocks import Candles
from app.market.state import State
from app.market.storage import differs

_BEYOND_ANY_MINUTE = 1 << 40


@dataclass(slots=True)
class Counters:
    """Candles since the matrix was made.

    corrections: closed candles that differ from what was known of their minute. duplicates: closed candles
    that do not. late: closed candles, until then unknown, of a minute before the symbol's newest closed one.
    merged_forming: forming candles superseded by a later one of the same minute in their batch.
    stale_forming: forming candles of a minute at or before the symbol's newest closed one.
    """

    corrections: int = 0
    duplicates: int = 0
    late: int = 0
    merged_forming: int = 0
    stale_forming: int = 0

    def as_dict(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """The accepted rows of one batch. No two rows of `revisions`, nor of `next_rows` that are closed, share
    a minute.

    revisions: closed candles at or before the newest closed minute that change what is known.
    next_rows: closed and forming candles after it, ordered by symbol, then minute, forming before closed.
    closed: (len(next_rows),). phase: (len(next_rows),), even for closed and odd for forming rows; within a
    symbol it never falls, and each phase can be computed for all symbols at once.
    """

    revisions: Candles
    next_rows: Candles
    closed: BoolArray
    phase: NDArray[np.intp]


def all_next(state: State, candles: Candles, closed: BoolArray) -> bool:
    """Whether the batch is plain: closed candles, each after what is known of its symbol, none twice."""
    if not closed.all() or (candles.minutes <= state.newest[candles.columns]).any():
        return False
    first = candles.minutes.min()
    span = int(candles.minutes.max() - first) + 1
    if span * state.used > 16 * len(candles) + 4096:
        return False
    cells = (candles.minutes - first) * state.used + candles.columns
    return int(np.bincount(cells).max()) == 1


def all_forming_next(state: State, candles: Candles, closed: BoolArray) -> bool:
    """Whether the batch is forming candles of one minute, the next of each symbol, in order of column."""
    if closed.any() or not (candles.columns[1:] > candles.columns[:-1]).all():
        return False
    minute = candles.minutes[0]
    following = state.newest[candles.columns] == minute - 1
    return bool(following.all() and (candles.minutes == minute).all())


def sort_out(state: State, candles: Candles, closed: BoolArray, counters: Counters) -> Arrivals:
    """Classifies the rows of a batch, given in order of arrival, and counts what is dropped or merged."""
    forming = _accepted_forming(state, candles, closed, counters)
    closed_rows, is_next = _changed_closed(state, candles, closed, counters)
    chosen = np.concatenate((closed_rows[is_next], forming))
    chosen = chosen[np.lexsort((closed[chosen], candles.minutes[chosen], candles.columns[chosen]))]
    next_rows = candles.take(chosen)
    next_closed = closed[chosen]
    return Arrivals(
        revisions=candles.take(closed_rows[~is_next]),
        next_rows=next_rows,
        closed=next_closed,
        phase=_phases(next_rows.columns, next_closed),
    )


def _accepted_forming(
    state: State, candles: Candles, closed: BoolArray, counters: Counters
) -> NDArray[np.intp]:
    """Rows of the forming candles to evaluate: not stale when they arrived, the last of their minute."""
    forming = ~closed
    if not forming.any():
        return np.empty(0, dtype=np.intp)
    newest = _newest_closed_on_arrival(state, candles, closed)
    fresh = forming & (candles.minutes > newest)
    rows = np.flatnonzero(fresh)
    counters.stale_forming += int(forming.sum()) - len(rows)
    order = rows[np.lexsort((candles.minutes[rows], candles.columns[rows]))]
    last = np.append(_key_changes(candles, order), True)[: len(order)]
    counters.merged_forming += len(order) - int(last.sum())
    accepted: NDArray[np.intp] = order[last]
    return accepted


def _newest_closed_on_arrival(state: State, candles: Candles, closed: BoolArray) -> IntArray:
    """(n,) the symbol's newest closed minute when each row arrived."""
    newest: IntArray = state.newest[candles.columns]
    if not closed.any():
        return newest
    order = np.argsort(candles.columns, kind="stable")
    columns = candles.columns[order].astype(np.int64)
    seen = np.where(closed[order], np.maximum(candles.minutes[order], newest[order]), newest[order])
    seen = np.maximum.accumulate(seen + columns * _BEYOND_ANY_MINUTE) - columns * _BEYOND_ANY_MINUTE
    on_arrival: IntArray = np.empty(len(newest), dtype=np.int64)
    on_arrival[order] = seen
    return on_arrival


def _changed_closed(
    state: State, candles: Candles, closed: BoolArray, counters: Counters
) -> tuple[NDArray[np.intp], BoolArray]:
    """Rows of closed candles that change what is known, the last of each minute; whether each is a next
    minute."""
    rows = np.flatnonzero(closed)
    order = rows[np.lexsort((candles.minutes[rows], candles.columns[rows]))]
    if not len(order):
        return order, np.empty(0, dtype=np.bool_)
    some = candles.take(order)
    newest = state.newest[some.columns]
    is_next = some.minutes > newest
    known = ~is_next & (state.known[some.minutes % state.quote_rows, some.columns] == 1)
    too_old = some.minutes <= newest - state.quote_rows
    known &= ~too_old
    repeats = np.zeros(len(order), dtype=np.bool_)
    repeats[1:] = ~_key_changes(candles, order)

    changes = ~known & ~too_old
    changes[known] = differs(state, some.take(known))
    again = np.flatnonzero(repeats)
    changes[again] = _unlike_the_one_before(some, again)
    first_known = known & ~repeats
    counters.late += int((~is_next & ~known & ~repeats).sum())
    counters.corrections += int((changes & (first_known | repeats)).sum())
    counters.duplicates += int((~changes & (first_known | repeats)).sum())

    last = np.append(~repeats[1:], True)
    # A minute counts as changed if any of its candles in this batch changed it.
    group = np.cumsum(~repeats) - 1
    group_changed = np.zeros(int(group[-1]) + 1, dtype=np.bool_)
    np.logical_or.at(group_changed, group, changes)
    keep = last & group_changed[group]
    return order[keep], is_next[keep]


def _unlike_the_one_before(candles: Candles, rows: NDArray[np.intp]) -> BoolArray:
    unlike: BoolArray = (
        (candles.sums[:, rows] != candles.sums[:, rows - 1]).any(axis=0)
        | (candles.extremes[:, rows] != candles.extremes[:, rows - 1]).any(axis=0)
        | (candles.prices[:, rows] != candles.prices[:, rows - 1]).any(axis=0)
    )
    return unlike


def _key_changes(candles: Candles, order: NDArray[np.intp]) -> BoolArray:
    """(len(order) - 1,) whether the next row is of another symbol or minute."""
    columns, minutes = candles.columns[order], candles.minutes[order]
    changes: BoolArray = (columns[1:] != columns[:-1]) | (minutes[1:] != minutes[:-1])
    return changes


def _phases(columns: NDArray[np.intp], closed: BoolArray) -> NDArray[np.intp]:
    if not len(columns):
        return np.empty(0, dtype=np.intp)
    starts = np.append(True, columns[1:] != columns[:-1])
    turns = np.append(False, closed[1:] != closed[:-1]) & ~starts
    # Counting turns, from 0 at the symbol's first row if that is closed and from 1 if it is forming.
    count = np.cumsum(turns)
    first_of_symbol = np.flatnonzero(starts)
    symbol = np.cumsum(starts) - 1
    base = count[first_of_symbol] - (~closed[first_of_symbol]).astype(np.intp)
    phases: NDArray[np.intp] = count - base[symbol]
    return phases
