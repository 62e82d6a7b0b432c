"""The owed minutes of each symbol: closed minutes that the exchange has had time to send and that have not arrived.

Pure: time comes in as an argument, and it is the exchange's. Minutes are open times in UTC ms. A symbol is owed
every minute since it was expected; a minute older than the horizon is not owed any more, and a minute that the
exchange does not give is given up in the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from app.candles.batch import MINUTE_MS
from app.candles.known_minutes import Gap


@dataclass(slots=True)
class _Minutes:
    through_ms: int
    """The newest minute that is known or owed."""
    last_ms: int | None = None
    """None while the symbol is listed."""
    owed: set[int] = field(default_factory=set)
    given_up: set[int] = field(default_factory=set)


class Coverage:
    """The owed minutes of all symbols. horizon_minutes: how far back from a symbol's newest minute they are owed."""

    def __init__(self, horizon_minutes: int) -> None:
        self._horizon_ms = horizon_minutes * MINUTE_MS
        self._symbols: dict[str, _Minutes] = {}

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._symbols

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._symbols)

    def expect(self, symbol: str, since_ms: int) -> None:
        """Owe every minute from `since_ms` on; a symbol that is already expected stays as it is."""
        self._symbols.setdefault(symbol, _Minutes(since_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS))

    def forget(self, symbol: str) -> None:
        self._symbols.pop(symbol, None)

    def end(self, symbol: str, last_ms: int | None) -> None:
        """Owe no minute after `last_ms`; None: owe all of them again."""
        minutes = self._symbols.get(symbol)
        if minutes is not None:
            minutes.last_ms = last_ms

    def has_reached(self, symbol: str, open_time_ms: int) -> bool:
        """Return whether that minute has ended, or a later one: it is there, owed, or given up."""
        minutes = self._symbols.get(symbol)
        return minutes is not None and minutes.through_ms >= open_time_ms

    def take(self, symbol: str, open_time_ms: int) -> None:
        """Note a closed minute; the minutes between it and the newest before it are owed from now on."""
        minutes = self._symbols.get(symbol)
        if minutes is None:
            return
        if open_time_ms > minutes.through_ms:
            self._reach(minutes, open_time_ms)
        minutes.owed.discard(open_time_ms)
        minutes.given_up.discard(open_time_ms)

    def take_run(self, run: Gap) -> None:
        """Call `take` for every minute of a run."""
        minutes = self._symbols.get(run.symbol)
        if minutes is None:
            return
        if run.last_ms > minutes.through_ms:
            self._reach(minutes, run.last_ms)
        there = range(run.first_ms, run.last_ms + 1, MINUTE_MS)
        minutes.owed.difference_update(there)
        minutes.given_up.difference_update(there)

    def pass_time(self, now_ms: int, symbols: Iterable[str] | None = None) -> None:
        """Owe every missing minute that ended by `now_ms`; of these symbols, or of all."""
        last_ms = now_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS
        for symbol in self._symbols if symbols is None else symbols:
            minutes = self._symbols.get(symbol)
            if minutes is None:
                continue
            reached_ms = last_ms if minutes.last_ms is None else min(last_ms, minutes.last_ms)
            if reached_ms > minutes.through_ms:
                self._reach(minutes, reached_ms)

    def report(self, gap: Gap) -> set[int]:
        """Owe again minutes that a later stage lacks; return these, without minutes that are not owed: the
        symbol is not followed, or they are older than the horizon, given up, or still to come."""
        minutes = self._symbols.get(gap.symbol)
        if minutes is None:
            return set()
        first_ms = max(gap.first_ms, minutes.through_ms - self._horizon_ms + MINUTE_MS)
        last_ms = min(gap.last_ms, minutes.through_ms)
        lacking = set(range(first_ms, last_ms + 1, MINUTE_MS)) - minutes.given_up
        minutes.owed |= lacking
        return lacking

    def owed(self, symbol: str) -> list[Gap]:
        """Return the runs of owed minutes, oldest first."""
        minutes = self._symbols.get(symbol)
        return [] if minutes is None else runs(symbol, sorted(minutes.owed))

    def owed_minutes(self) -> dict[str, int]:
        """Return the number of owed minutes of each symbol that has any."""
        return {symbol: len(minutes.owed) for symbol, minutes in self._symbols.items() if minutes.owed}

    def give_up(self, gap: Gap) -> None:
        """Give up minutes that the exchange does not have: not owed, and not requested again when reported."""
        minutes = self._symbols.get(gap.symbol)
        if minutes is not None:
            gone = minutes.owed.intersection(range(gap.first_ms, gap.last_ms + 1, MINUTE_MS))
            minutes.owed -= gone
            minutes.given_up |= gone

    def _reach(self, minutes: _Minutes, open_time_ms: int) -> None:
        """Advance the newest minute; it and all minutes in between are owed, except those beyond the horizon."""
        oldest_ms = open_time_ms - self._horizon_ms + MINUTE_MS
        first_ms = max(minutes.through_ms + MINUTE_MS, oldest_ms)
        minutes.owed.update(range(first_ms, open_time_ms + 1, MINUTE_MS))
        minutes.through_ms = open_time_ms
        if minutes.owed:
            minutes.owed = {minute for minute in minutes.owed if minute >= oldest_ms}
        if minutes.given_up:
            minutes.given_up = {minute for minute in minutes.given_up if minute >= oldest_ms}


def runs(symbol: str, minutes: Iterable[int]) -> list[Gap]:
    """Return ascending minutes as runs of consecutive minutes."""
    found: list[Gap] = []
    for minute in minutes:
        if found and minute == found[-1].last_ms + MINUTE_MS:
            found[-1] = Gap(symbol, found[-1].first_ms, minute)
        else:
            found.append(Gap(symbol, minute, minute))
    return found
