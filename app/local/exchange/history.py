"""Candles of any time and interval, made from a market's days on request, with a cache of days.

Everything here is synchronous and may take long, so the server runs it on a thread of its own, one call at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from app.candles.batch import MINUTE_MS, IntArray
from app.local.exchange.intervals import LENGTHS, bar_open, bars_back, next_open, opens_between
from app.local.exchange.market.market import BLOCK, DAY_MINUTES, Market
from app.local.exchange.market.planes import Planes, bars_of, stack

_HOUR: Final = 60
_WHOLE: Final = np.zeros(1, dtype=np.intp)
"""Starts of bars, for one bar of all rows."""
_KEPT_BYTES: Final = 256 * 1024 * 1024
"""The limit for days in minutes; for days in hours, each a sixtieth of the size, it is twice as much."""
Key = tuple[int, int]
"""day (since 1970), block of contracts"""


@dataclass(frozen=True, slots=True)
class Klines:
    """Bars of one contract: `open_minutes` (minutes since 1970) and planes of shape (bars,)."""

    interval: str
    open_minutes: IntArray
    bars: Planes


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for klines; times are UTC ms and inclusive, None if not given."""

    interval: str
    start_ms: int | None
    end_ms: int | None
    limit: int


class History:
    """The candles of `market`, from `first_day` (days since 1970) on."""

    def __init__(
        self, market: Market, first_day: int, *, kept_bytes: int = _KEPT_BYTES, kept_days: int = 3
    ) -> None:
        """Keep days in minutes up to `kept_bytes`, but the `kept_days` used last in any case."""
        self.market = market
        begins = market.first_minute()
        self.first_minute = first_day * DAY_MINUTES if begins is None else begins
        self.blocks = -(-len(market.contracts) // BLOCK)
        self._minutes = KeptDays(kept_bytes, at_least=kept_days * self.blocks)
        self._hours = KeptDays(2 * kept_bytes, at_least=kept_days * self.blocks)

    def rows(self, minute: int, end_minute: int) -> Planes:
        """Return minutes from `minute` up to before `end_minute`, at least one, of all contracts."""
        return stack([self._block_rows(block, minute, end_minute) for block in range(self.blocks)], axis=1)

    def steps(self, contract: int, asked: Asked, first: int, closed: int) -> list[Callable[[], Planes]]:
        """Return the work that `klines` would have to do first, in parts of a day each, so that other calls can come
        in between."""
        first = max(first, self.first_minute)
        opens = _opens(asked, first, closed - 1)
        if not len(opens):
            return []
        block, of_hours = contract // BLOCK, LENGTHS[asked.interval] % _HOUR == 0
        until = min(next_open(asked.interval, int(opens[-1])), closed)
        missing: list[Callable[[], Planes]] = []
        for low, high in _days(int(opens[0]), until):
            day = low // DAY_MINUTES
            if _by_hours(of_hours, low, high, first):
                if (day, block) not in self._hours:
                    missing.append(partial(self._day_hours, day, block))
            elif (day, block) not in self._minutes:
                missing.append(partial(self._day_minutes, day, block))
        return missing

    def klines(self, contract: int, asked: Asked, first: int, closed: int, forming: Planes | None) -> Klines:
        """Return bars of one contract, oldest first; the last one is made of its minutes so far.

        first: first minute of the contract. closed: the minute before which its candles are closed.
        forming: the candle of that minute, shape (), if it has begun.
        """
        first = max(first, self.first_minute)
        opens = _opens(asked, first, closed - 1 if forming is None else closed)
        if not len(opens):
            return Klines(asked.interval, opens, _NOTHING)
        ends = next_open(asked.interval, int(opens[-1]))
        parts, minutes = self._column(contract, int(opens[0]), min(ends, closed), asked.interval, first)
        if forming is not None and ends > closed:
            parts, minutes = [*parts, forming[None]], np.append(minutes, closed)
        rows = stack(parts)
        if opens[0] < first:
            rows = rows.without(minutes < first)
        return Klines(asked.interval, opens, bars_of(rows, np.searchsorted(minutes, opens)))

    def bars_so_far(self, interval: str, minute: int, first: IntArray) -> Planes:
        """Return, for all contracts, the closed minutes of the bar of `minute` as one bar; shape (contracts,)."""
        return self.window_bars(bar_open(interval, minute), minute, first)

    def window_bars(self, start: int, end: int, first: IntArray) -> Planes:
        """Return one bar of each contract, of the minutes from `start` up to before `end`; shape (contracts,).

        first: first minute of each contract, shape (contracts,).
        """
        start = max(start, self.first_minute)
        blocks = []
        for block in range(self.blocks):
            begins = first[block * BLOCK : (block + 1) * BLOCK]
            parts = [self._one_bar(*span, block, begins) for span in _days(start, end)]
            blocks.append(bars_of(stack(parts), _WHOLE)[0] if parts else empty_bars(len(begins)))
        return stack(blocks)

    def _one_bar(self, start: int, end: int, block: int, first: IntArray) -> Planes:
        """Return a bar of minutes of one day, shape (1, contracts of the block)."""
        begin = start // DAY_MINUTES * DAY_MINUTES
        begins_within = ((start < first) & (first < end)).any()
        if end - start == DAY_MINUTES and not begins_within:
            rows = self._day_hours(begin // DAY_MINUTES, block)
        else:
            rows = self._day_minutes(begin // DAY_MINUTES, block)[start - begin : end - begin]
            if begins_within:
                rows = rows.without(np.arange(start, end)[:, None] < first)
        return bars_of(rows, _WHOLE).without(first >= end)

    def _column(
        self, contract: int, start: int, end: int, interval: str, first: int
    ) -> tuple[list[Planes], IntArray]:
        """Return rows of one contract, and the minute that each begins at; hours where whole hours will do."""
        block, at = divmod(contract, BLOCK)
        of_hours = LENGTHS[interval] % _HOUR == 0
        parts, times = [], [np.zeros(0, dtype=np.int64)]
        for low, high in _days(start, end):
            day, at_minute = divmod(low, DAY_MINUTES)
            by_hours = _by_hours(of_hours, low, high, first)
            if by_hours:
                parts.append(self._day_hours(day, block)[:, at])
            else:
                parts.append(self._day_minutes(day, block)[at_minute : at_minute + high - low, at])
            times.append(np.arange(low, high, _HOUR if by_hours else 1, dtype=np.int64))
        return parts, np.concatenate(times)

    def _block_rows(self, block: int, start: int, end: int) -> Planes:
        parts = []
        for low, high in _days(start, end):
            day, at = divmod(low, DAY_MINUTES)
            parts.append(self._day_minutes(day, block)[at : at + high - low])
        return stack(parts)

    def _day_minutes(self, day: int, block: int) -> Planes:
        found = self._minutes.get((day, block))
        return found or self._minutes.put((day, block), self.market.day(day, block))

    def _day_hours(self, day: int, block: int) -> Planes:
        found = self._hours.get((day, block))
        if found is None:
            starts = np.arange(0, DAY_MINUTES, _HOUR, dtype=np.intp)
            # a day that is read for its hours alone must not push others out of the cache
            minutes = self._minutes.get((day, block)) or self.market.day(day, block)
            found = self._hours.put((day, block), bars_of(minutes, starts))
        return found


def _days(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the minutes from `start` up to before `end`, in parts of one day each."""
    while start < end:
        until = min(end, (start // DAY_MINUTES + 1) * DAY_MINUTES)
        yield start, until
        start = until


def _by_hours(of_hours: bool, start: int, end: int, first: int) -> bool:
    """Return whether the hours of a day will do for its minutes from `start` up to before `end`."""
    return of_hours and end - start == DAY_MINUTES and start >= first


def _opens(asked: Asked, first: int, last: int) -> IntArray:
    """Return the opens of the requested bars, among the bars with minutes from `first` to `last`."""
    if last < first:
        return np.zeros(0, dtype=np.int64)
    if asked.end_ms is not None:
        last = min(last, asked.end_ms // MINUTE_MS)
    begin = bar_open(asked.interval, first)
    if asked.start_ms is not None:
        start = -(-asked.start_ms // MINUTE_MS)
        opened = bar_open(asked.interval, start)
        begin = max(begin, opened if opened == start else next_open(asked.interval, opened))
        last = min(last, bars_back(asked.interval, begin, -(asked.limit - 1)))
    elif last >= first:
        begin = max(begin, bars_back(asked.interval, bar_open(asked.interval, last), asked.limit - 1))
    return opens_between(asked.interval, begin, last)[: asked.limit]


def empty_bars(contracts: int) -> Planes:
    """Return, for each contract, one bar without candles."""
    no_price, nothing = np.zeros(contracts, np.int32), np.zeros(contracts)
    none = np.zeros(contracts, np.int64)
    return Planes(no_price, no_price, no_price, no_price, nothing, nothing, nothing, none)


_NOTHING: Final = empty_bars(0)


class KeptDays:
    """A cache of days of blocks: the ones used last, up to `most_bytes`, but `at_least` of them in any case."""

    def __init__(self, most_bytes: int, at_least: int) -> None:
        self._most_bytes = most_bytes
        self._at_least = at_least
        self._days: OrderedDict[Key, Planes] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._days)

    def __contains__(self, key: Key) -> bool:
        return key in self._days

    def get(self, key: Key) -> Planes | None:
        found = self._days.get(key)
        if found is not None:
            self._days.move_to_end(key)
        return found

    def put(self, key: Key, planes: Planes) -> Planes:
        self._days[key] = planes
        self._bytes += planes.nbytes
        while self._bytes > self._most_bytes and len(self._days) > self._at_least:
            _, oldest = self._days.popitem(last=False)
            self._bytes -= oldest.nbytes
        return planes
