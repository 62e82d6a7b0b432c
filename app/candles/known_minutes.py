"""The known minutes of each symbol: the collector finds duplicates and gaps with them.

State: a ring of minutes x symbols of one shard, addressed by time. For each closed candle it holds the minute
and a 64-bit fingerprint of the values, 12 bytes in all, so that a repeat is told from a correction without
keeping the candle.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, BoolArray, CandleBatch, IntArray
from app.candles.departures import Departures

_FINGERPRINT_COLUMNS = ("open", "high", "low", "close", "volume", "quote_volume")
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_NEVER = np.int32(-1)


@dataclass(frozen=True, slots=True)
class Gap:
    """Missing minutes, from the open time of the first to that of the last, inclusive."""

    symbol: str
    first_ms: int
    last_ms: int

    @property
    def minutes(self) -> int:
        return (self.last_ms - self.first_ms) // MINUTE_MS + 1


@dataclass(slots=True)
class Accepted:
    """Result of `KnownMinutes.accept` for a batch.

    batch: the rows to pass on, in order of time (order of arrival within a minute).
    closed_minutes_ms: open times of the minutes for which a closed row is passed on.
    duplicates: closed candles that were known with the same values. corrections: known with other values.
    stale_forming: forming candles of minutes already closed. late: closed candles older than the newest.
    gaps: newly found ones.
    """

    batch: CandleBatch
    closed_minutes_ms: IntArray
    duplicates: int = 0
    corrections: int = 0
    stale_forming: int = 0
    late: int = 0
    gaps: list[Gap] = field(default_factory=list)


def _fingerprints(batch: CandleBatch) -> NDArray[np.uint64]:
    mixed = batch.trades.astype(np.uint64)
    for name in _FINGERPRINT_COLUMNS:
        # + 0.0 turns -0.0 into 0.0
        bits = (getattr(batch, name) + 0.0).view(np.uint64)
        mixed = (mixed ^ bits) * _PRIME
        mixed ^= mixed >> np.uint64(29)
    return mixed


class KnownMinutes:
    """The known closed minutes of one shard; `capacity_minutes` back from the newest of each symbol."""

    def __init__(self, capacity_minutes: int = 1536) -> None:
        self._capacity = capacity_minutes
        self._position: dict[str, int] = {}
        self._symbols: list[str] = []
        self._minute = np.full((capacity_minutes, 0), _NEVER, dtype=np.int32)
        self._fingerprint = np.zeros((capacity_minutes, 0), dtype=np.uint64)
        self._newest = np.zeros(0, dtype=np.int64)
        self._departures = Departures()

    def __len__(self) -> int:
        """Return the number of symbols."""
        return len(self._symbols)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._position

    def accept(self, batch: CandleBatch) -> Accepted:
        """Note the closed candles of a validated batch and return the rows to pass on.

        The ring reaches back from the newest minute of the batch: how its rows are ordered does not matter. Symbols
        that have left are forgotten.
        """
        if len(batch):
            self._drop(self._departures.note(batch.symbols, int(batch.open_time_ms.max())))
        columns = self._columns(batch.symbols)[batch.symbol_index]
        minutes = batch.open_time_ms // MINUTE_MS
        fingerprints = _fingerprints(batch)
        keep = np.ones(len(batch), dtype=np.bool_)
        result = Accepted(batch, np.zeros(0, dtype=np.int64))

        closed_rows = np.flatnonzero(batch.closed)
        before = self._newest.copy()
        np.maximum.at(self._newest, columns[closed_rows], minutes[closed_rows])
        for rows in _waves(columns[closed_rows], minutes[closed_rows]):
            wave = closed_rows[rows]
            repeats = self._take_closed(columns[wave], minutes[wave], fingerprints[wave], before, result)
            keep[wave[repeats]] = False
        passed = closed_rows[keep[closed_rows]]
        result.gaps = self._gaps(before, columns[passed], minutes[passed])

        forming = np.flatnonzero(~batch.closed)
        stale = self._is_known(columns[forming], minutes[forming])
        keep[forming[stale]] = False
        result.stale_forming = int(np.count_nonzero(stale))

        result.closed_minutes_ms = np.unique(minutes[passed]) * MINUTE_MS
        order = np.argsort(batch.open_time_ms, kind="stable")
        order = order[keep[order]]
        if len(order) < len(batch) or (np.diff(order) < 0).any():
            result.batch = batch.take(order)
        return result

    def _take_closed(
        self,
        column: IntArray,
        minute: IntArray,
        fingerprint: NDArray[np.uint64],
        newest_before: IntArray,
        result: Accepted,
    ) -> BoolArray:
        """Note one wave, with each (symbol, minute) at most once; return which are known with the same values."""
        slot = minute % self._capacity
        known = self._is_known(column, minute)
        same: BoolArray = known & (self._fingerprint[slot, column] == fingerprint)
        result.duplicates += int(np.count_nonzero(same))
        result.corrections += int(np.count_nonzero(known & ~same))
        result.late += int(np.count_nonzero(~known & (minute < newest_before[column])))
        # a minute older than the ring is passed on, but its slot belongs to a newer minute
        recorded = ~same & (minute > self._newest[column] - self._capacity)
        self._minute[slot[recorded], column[recorded]] = minute[recorded]
        self._fingerprint[slot[recorded], column[recorded]] = fingerprint[recorded]
        return same

    def _is_known(self, column: IntArray, minute: IntArray) -> BoolArray:
        """Return which minutes are known. A slot that no newer minute has used may hold one older than the ring
        reaches."""
        held: BoolArray = self._minute[minute % self._capacity, column] == minute
        return held & (minute > self._newest[column] - self._capacity)

    def _gaps(self, newest_before: IntArray, columns: IntArray, minutes: IntArray) -> list[Gap]:
        """Find gaps: consecutive closed minutes of a symbol more than one apart, after its newest minute."""
        order = np.lexsort((minutes, columns))
        column, minute = columns[order], minutes[order]
        previous = np.empty_like(minute)
        previous[1:] = minute[:-1]
        starts = np.ones(len(column), dtype=np.bool_)
        starts[1:] = column[1:] != column[:-1]
        previous[starts] = newest_before[column[starts]]
        previous = np.maximum(previous, newest_before[column])
        found = np.flatnonzero((previous > 0) & (minute > previous + 1))
        return [
            Gap(
                self._symbols[column[at]],
                int(previous[at] + 1) * MINUTE_MS,
                int(minute[at] - 1) * MINUTE_MS,
            )
            for at in found
        ]

    def _columns(self, symbols: tuple[str, ...]) -> NDArray[np.int64]:
        missing = [symbol for symbol in symbols if symbol not in self._position]
        if missing:
            self._grow(missing)
        return np.array([self._position[symbol] for symbol in symbols], dtype=np.int64)

    def _grow(self, symbols: list[str]) -> None:
        for symbol in symbols:
            self._position[symbol] = len(self._symbols)
            self._symbols.append(symbol)
        allocated = self._minute.shape[1]
        if len(self._symbols) > allocated:
            more = max(len(self._symbols), 2 * allocated, 16) - allocated
            self._minute = np.pad(self._minute, ((0, 0), (0, more)), constant_values=_NEVER)
            self._fingerprint = np.pad(self._fingerprint, ((0, 0), (0, more)))
            self._newest = np.pad(self._newest, (0, more))

    def _drop(self, symbols: Collection[str]) -> None:
        gone = [self._position[symbol] for symbol in symbols if symbol in self._position]
        if not gone:
            return
        kept = np.setdiff1d(np.arange(len(self._symbols)), gone)
        self._symbols = [self._symbols[column] for column in kept.tolist()]
        self._position = {symbol: column for column, symbol in enumerate(self._symbols)}
        self._minute, self._fingerprint = self._minute[:, kept], self._fingerprint[:, kept]
        self._newest = self._newest[kept]

    def drop_left(self) -> None:
        """Forget symbols that had left. Call it after the stored minutes are loaded."""
        self._drop(self._departures.left_before())

    def pack_minute(self, open_time_ms: int) -> bytes:
        """Return the closed candles known at that minute: symbols, then fingerprints. `load_minute` reads it."""
        minute = open_time_ms // MINUTE_MS
        slot = minute % self._capacity
        reached = minute > self._newest - self._capacity
        columns = np.flatnonzero(reached & (self._minute[slot] == minute))
        names = ",".join(self._symbols[column] for column in columns).encode()
        fingerprints: bytes = self._fingerprint[slot, columns].tobytes()
        return len(names).to_bytes(4, "little") + names + fingerprints

    def load_minute(self, open_time_ms: int, packed: bytes) -> None:
        """Restore a minute from the bytes of `pack_minute`. Minutes may come in any order; repeats are harmless.
        Raises ValueError for other bytes."""
        length = int.from_bytes(packed[:4], "little")
        names = tuple(packed[4 : 4 + length].decode().split(",")) if length else ()
        fingerprints = np.frombuffer(packed[4 + length :], dtype=np.uint64)
        if len(fingerprints) != len(names):
            raise ValueError(f"{len(names)} symbols and {len(fingerprints)} fingerprints")
        minute = open_time_ms // MINUTE_MS
        columns = self._columns(names)
        recent = minute > self._newest[columns] - self._capacity
        slot = minute % self._capacity
        self._minute[slot, columns[recent]] = minute
        self._fingerprint[slot, columns[recent]] = fingerprints[recent]
        np.maximum.at(self._newest, columns, minute)
        for name in names:
            self._departures.restored(name, open_time_ms)

    def missing_minutes(self, symbol: str) -> int:
        """Return the number of unknown minutes between the oldest and the newest known one of the ring."""
        column = self._position[symbol]
        newest = int(self._newest[column])
        known = self._minute[:, column]
        known = known[(known >= 0) & (known > newest - self._capacity)]
        return newest - int(known.min()) + 1 - len(known) if len(known) else 0


def _waves(columns: NDArray[np.int64], minutes: IntArray) -> list[NDArray[np.intp]]:
    """Return positions of rows, split so that each (symbol, minute) is at most once in a part, in order of arrival."""
    if not len(columns):
        return []
    key = minutes * (int(columns.max()) + 1) + columns
    order = np.argsort(key, kind="stable")
    repeated = np.zeros(len(key), dtype=np.int64)
    same = key[order][1:] == key[order][:-1]
    if not same.any():
        return [np.arange(len(key))]
    # rank of each row within its key: distance from the start of its run
    starts = np.maximum.accumulate(np.where(np.concatenate(([True], ~same)), np.arange(len(key)), 0))
    repeated[order] = np.arange(len(key)) - starts
    return [np.flatnonzero(repeated == rank) for rank in range(int(repeated.max()) + 1)]
