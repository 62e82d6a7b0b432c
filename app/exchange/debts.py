"""When to ask again for minutes that the exchange did not give, and when to stop asking."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

_FIRST_WAIT_S: Final = 2.0
_LONGEST_WAIT_S: Final = 60.0


@dataclass(slots=True)
class _Debt:
    failures: int = 0
    due_s: float = 0.0
    refused_since_s: dict[int, float] = field(default_factory=dict)
    """When the exchange first answered without the minute."""


class Debts:
    """By symbol; times are monotonic seconds given by the caller, minutes are open times in UTC ms.

    give_up_s: a minute that the exchange has not had for so long is given up.
    """

    def __init__(self, give_up_s: float) -> None:
        self._give_up_s = give_up_s
        self._debts: dict[str, _Debt] = {}

    def is_due(self, symbol: str, minutes: Iterable[int], now_s: float) -> bool:
        """Whether to ask: at once for minutes never asked for, later and later for others."""
        debt = self._debts.get(symbol)
        if debt is None or now_s >= debt.due_s:
            return True
        return debt.failures == 0 and any(minute not in debt.refused_since_s for minute in minutes)

    def failed(self, symbol: str, now_s: float) -> None:
        """The exchange did not answer: nothing is known about the minutes."""
        debt = self._debts.setdefault(symbol, _Debt())
        debt.due_s = now_s + _wait_s(debt.failures)
        debt.failures += 1

    def answered(self, symbol: str, still_owed: Collection[int], now_s: float) -> list[int]:
        """The exchange answered, without these minutes. Returns those to give up, in order."""
        if not still_owed:
            self._debts.pop(symbol, None)
            return []
        debt = self._debts.setdefault(symbol, _Debt())
        debt.failures = 0
        since_s = debt.refused_since_s
        debt.refused_since_s = {minute: since_s.get(minute, now_s) for minute in still_owed}
        youngest_s = now_s - max(debt.refused_since_s.values())
        # as long again as it has lasted, so that the waits double
        debt.due_s = now_s + min(_LONGEST_WAIT_S, max(_FIRST_WAIT_S, youngest_s)) * _jitter()
        return sorted(
            minute for minute, first_s in debt.refused_since_s.items() if now_s - first_s >= self._give_up_s
        )

    def forget(self, symbol: str) -> None:
        self._debts.pop(symbol, None)


def _wait_s(failures: int) -> float:
    longest_s: float = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(failures, 10))
    return longest_s * _jitter()


def _jitter() -> float:
    return random.uniform(0.5, 1.0)  # noqa: S311  # reason: spreads requests, decides nothing
