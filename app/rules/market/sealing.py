"""Sealing: which closed minutes of all symbols belong together, and from when on they no longer change.

Rows arrive by shard, in the shard's order unless an earlier process was killed, but the shards arrive in any order
relative to each other. So whether a shard is done with a minute is decided by the shard alone, never by the rows of a
faster one: the sealed minutes are the same for any number of shards and any timing. A shard is done with minute t
when all its symbols that were known at t - 1 have delivered t and it has a row of a later minute. Otherwise it is
asked: once the event time of any shard has passed the end of t by the grace, or all symbols of all shards have
delivered, a fence goes through the stages before and comes back behind all that was under way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from app.candles.batch import MINUTE_MS
from app.market.metrics import MetricsBatch

_NEVER: Final = -(2**62)


@dataclass(frozen=True, slots=True)
class SealedMinute:
    """rows: one per symbol whose closed minute was known, by name of the symbol; at least one.

    missing: symbols that were known the minute before and did not deliver this one in time.
    """

    open_time_ms: int
    rows: MetricsBatch
    missing: int = 0


@dataclass(frozen=True, slots=True)
class Fence:
    """What a shard has proved once the fence has come back: nothing more of minutes before `minute_ms` is on its way
    between the stages.

    event_ts_ms: nor is anything more that was published up to this event time, if the fence was sent behind all of
    it. None if the place of the fence does not matter.
    """

    minute_ms: int
    event_ts_ms: int | None


@dataclass(slots=True)
class _Shard:
    event_ts_ms: int = _NEVER
    """The greatest event time of its rows."""
    complete_ms: int = _NEVER
    """Everything up to this event time has arrived, as a fence has proved."""
    minute_ms: int = _NEVER
    """The greatest open time of its rows, forming ones included."""
    awaited: set[str] = field(default_factory=set)
    """Symbols of the minute sealed last that have not delivered the next one."""
    pending: dict[int, list[MetricsBatch]] = field(default_factory=dict)
    """Open time -> closed rows, in order of arrival, of minutes that are not sealed."""
    began_at: dict[int, int] = field(default_factory=dict)
    """Open time of a pending minute -> offset of the record with its first row."""
    next_offset: int = 0
    asked: bool = False

    def await_minute(self, minute_ms: int, known: Collection[str]) -> None:
        """Wait for the symbols of the minute before to deliver this minute."""
        self.awaited = set(known).difference(*map(_names, self.pending.get(minute_ms, ())))


class Sealing:
    """Decides when minutes are complete. Feed it each shard's records in order; `sealed` yields the complete minutes
    in order of time."""

    def __init__(self, shards: int, grace_ms: int) -> None:
        self._shards = [_Shard() for _ in range(shards)]
        self._grace_ms = grace_ms
        self.sealed_ms: int | None = None
        """The last sealed minute."""
        self._has_symbols = False

    def restore(self, sealed_ms: int, symbols: Mapping[int, Collection[str]]) -> None:
        """Continue behind the minute sealed last; `symbols`: the shards' symbols in it. Call it first."""
        self.sealed_ms = sealed_ms
        for shard, names in symbols.items():
            self._shards[shard].await_minute(sealed_ms + MINUTE_MS, names)
        self._has_symbols = any(symbols.values())

    def read_from(self, offsets: Mapping[int, int]) -> None:
        """Note by shard where its records are read from."""
        for shard, offset in offsets.items():
            self._shards[shard].next_offset = offset

    def take(self, shard: int, offset: int, batch: MetricsBatch | None) -> int:
        """Take a record of a shard, None for one without rows, and return how many of its closed rows came after their
        minute was sealed, or after the shard was done with it."""
        of = self._shards[shard]
        of.next_offset = offset + 1
        if batch is None or not len(batch):
            return 0
        done_ms = of.complete_ms - self._grace_ms - MINUTE_MS
        if self.sealed_ms is not None:
            done_ms = max(done_ms, self.sealed_ms)
        closed = np.flatnonzero(batch.closed)
        fresh = closed[batch.open_time_ms[closed] > done_ms]
        minutes = batch.open_time_ms[fresh]
        for minute in np.unique(minutes).tolist():
            part = batch.take(fresh[minutes == minute])
            of.pending.setdefault(minute, []).append(part)
            of.began_at.setdefault(minute, offset)
            if self._may_be_early(minute):
                of.awaited -= _names(part)
        of.event_ts_ms = max(of.event_ts_ms, int(batch.event_ts_ms.max()))
        of.minute_ms = max(of.minute_ms, int(batch.open_time_ms.max()))
        return len(closed) - len(fresh)

    def sealed(self) -> Iterator[SealedMinute]:
        """Yield the minutes that are complete now; each counts as sealed once it is given."""
        while (minute := self._next()) is not None and all(self._done(of, minute) for of in self._shards):
            yield self._seal(minute)

    def fences(self) -> dict[int, Fence]:
        """Return the shards to send a fence through now, and what each proves when it comes back (`passed`)."""
        minute = self._next()
        if minute is None:
            return {}
        newest_ms = max(of.event_ts_ms for of in self._shards)
        if self._may_be_early(minute) and not any(of.awaited for of in self._shards):
            fence = Fence(minute + MINUTE_MS, None)
        elif newest_ms >= self._end_ms(minute):
            fence = Fence(minute + MINUTE_MS, newest_ms)
        else:
            return {}
        behind = [at for at, of in enumerate(self._shards) if not of.asked and not self._done(of, minute)]
        for at in behind:
            self._shards[at].asked = True
        return dict.fromkeys(behind, fence)

    def passed(self, shard: int, fence: Fence) -> None:
        """Note that the fence has come back through the shard, or that there is no point in waiting for it."""
        of = self._shards[shard]
        of.asked = False
        of.minute_ms = max(of.minute_ms, fence.minute_ms)
        if fence.event_ts_ms is not None:
            of.complete_ms = max(of.complete_ms, fence.event_ts_ms)

    @property
    def is_quiet(self) -> bool:
        """Whether no fence is under way."""
        return not any(of.asked for of in self._shards)

    def pending_minutes(self, shard: int) -> int:
        """Return how many minutes of the shard wait to be sealed."""
        return len(self._shards[shard].pending)

    def is_ahead(self, shard: int) -> bool:
        """Return whether other shards, but not this one, are awaited."""
        minute = self._next()
        return minute is not None and self._done(self._shards[shard], minute)

    def read_to(self) -> dict[int, int]:
        """Return by shard the offset behind its last record."""
        return {at: of.next_offset for at, of in enumerate(self._shards)}

    def resume_at(self) -> dict[int, int]:
        """Return by shard the offset from which its records must be read again to continue from here."""
        return {at: min(of.began_at.values(), default=of.next_offset) for at, of in enumerate(self._shards)}

    def _next(self) -> int | None:
        return min((minute for of in self._shards for minute in of.pending), default=None)

    def _end_ms(self, minute: int) -> int:
        return minute + MINUTE_MS + self._grace_ms

    def _may_be_early(self, minute: int) -> bool:
        """Return whether the minute may be sealed before the event time has passed its end by the grace. It may not
        without symbols known at the minute before: all of them would have delivered before the first has."""
        return self._has_symbols and self.sealed_ms == minute - MINUTE_MS

    def _done(self, of: _Shard, minute: int) -> bool:
        if of.complete_ms >= self._end_ms(minute):
            return True
        return self._may_be_early(minute) and of.minute_ms > minute and not of.awaited

    def _seal(self, minute: int) -> SealedMinute:
        missing = sum(len(of.awaited) for of in self._shards) if self._may_be_early(minute) else 0
        parts = []
        for of in self._shards:
            mine = of.pending.pop(minute, [])
            of.began_at.pop(minute, None)
            of.await_minute(minute + MINUTE_MS, set().union(*map(_names, mine)))
            parts += mine
        self.sealed_ms, self._has_symbols = minute, True
        return SealedMinute(minute, one_row_each(parts), missing)


def _names(part: MetricsBatch) -> set[str]:
    return {part.symbols[index] for index in np.unique(part.symbol_index).tolist()}


def one_row_each(parts: Sequence[MetricsBatch]) -> MetricsBatch:
    """Return the rows of all parts as one batch by name of the symbol, the last row of each; the columns are those of
    the first part, null where another part lacks them."""
    columns = parts[0].columns
    last = {
        part.symbols[index]: (at, row)
        for at, part in enumerate(parts)
        for row, index in enumerate(part.symbol_index.tolist())
    }
    names = sorted(last)
    part_of = np.array([last[name][0] for name in names], np.intp)
    row_of = np.array([last[name][1] for name in names], np.intp)
    rows = len(names)
    values = np.full((rows, len(columns)), np.nan)
    times = np.zeros((3, rows), np.int64)
    for at, part in enumerate(parts):
        here = np.flatnonzero(part_of == at)
        there = row_of[here]
        if part.columns == columns:
            values[here] = part.values[there]
        else:
            position = {name: column for column, name in enumerate(part.columns)}
            for column, name in enumerate(columns):
                if name in position:
                    values[here, column] = part.values[there, position[name]]
        times[0, here] = part.open_time_ms[there]
        times[1, here] = part.event_ts_ms[there]
        times[2, here] = part.ingest_ts_ms[there]
    return MetricsBatch(
        symbols=tuple(names),
        symbol_index=np.arange(rows, dtype=np.int32),
        open_time_ms=times[0],
        closed=np.ones(rows, np.bool_),
        event_ts_ms=times[1],
        ingest_ts_ms=times[2],
        values=values,
        columns=columns,
        exchange=parts[0].exchange,
    )
