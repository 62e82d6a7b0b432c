"""When to ask again for minutes that the exchange did not give, and when to stop asking."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from app.wire.retry import Backoff

_BACKOFF: Final = Backoff(2.0, 60.0)


@dataclass(slots=True)
class _Missing:
    failures: int = 0
    due_s: float = 0.0
    refused_since_s: dict[int, float] = field(default_factory=dict)
    """When the exchange first answered without the minute."""


class MissingMinutes:
    """Missing minutes by symbol; times are monotonic seconds given by the caller, minutes are open times in UTC ms.

    give_up_s: a minute that the exchange has not had for this long is given up.
    """

    def __init__(self, give_up_s: float) -> None:
        self._give_up_s = give_up_s
        self._missing: dict[str, _Missing] = {}

    def is_due(self, symbol: str, minutes: Iterable[int], now_s: float) -> bool:
        """Return whether to ask: at once for minutes never asked for, after growing waits for others."""
        missing = self._missing.get(symbol)
        if missing is None or now_s >= missing.due_s:
            return True
        return missing.failures == 0 and any(minute not in missing.refused_since_s for minute in minutes)

    def failed(self, symbol: str, now_s: float) -> None:
        """Note that the exchange did not answer: the minutes stay unknown."""
        missing = self._missing.setdefault(symbol, _Missing())
        missing.failures += 1
        missing.due_s = now_s + _BACKOFF.wait_s(missing.failures)

    def answered(self, symbol: str, still_owed: Collection[int], now_s: float) -> list[int]:
        """Note that the exchange answered without these minutes. Return minutes to give up, in order."""
        if not still_owed:
            self._missing.pop(symbol, None)
            return []
        missing = self._missing.setdefault(symbol, _Missing())
        missing.failures = 0
        since_s = missing.refused_since_s
        missing.refused_since_s = {minute: since_s.get(minute, now_s) for minute in still_owed}
        youngest_s = now_s - max(missing.refused_since_s.values())
        # wait as long again as the youngest minute has been missing, so that the waits double
        missing.due_s = now_s + Backoff(max(_BACKOFF.first_s, youngest_s), _BACKOFF.longest_s).wait_s(1)
        return sorted(
            minute
            for minute, first_s in missing.refused_since_s.items()
            if now_s - first_s >= self._give_up_s
        )

    def forget(self, symbol: str) -> None:
        self._missing.pop(symbol, None)
