"""Two sets of alerts side by side: how many a change of the rules adds, removes and moves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from app.backtest.backtest import Entry
from app.candles.batch import MINUTE_MS

MOVED_WITHIN_MS: Final = 15 * MINUTE_MS
UNMATCHED_MAX: Final = 1_000
"""How many alerts of a rule and symbol may wait for their pair; a longer chain of them is compared in parts."""


@dataclass(slots=True)
class _Unmatched:
    """Open times, UTC ms, of alerts of one rule and symbol that only one of the two sets has."""

    gone: list[int] = field(default_factory=list)
    come: list[int] = field(default_factory=list)

    @property
    def newest_ms(self) -> int:
        return max((*self.gone, *self.come))

    def __len__(self) -> int:
        return len(self.gone) + len(self.come)


@dataclass(slots=True)
class _Counts:
    kept: int = 0
    added: int = 0
    removed: int = 0
    moved: int = 0


class AlertComparison:
    """Feed it the alerts of both rules step by step, in order of time.

    Alerts are the same if rule_type, symbol and minute are. A removed and an added alert of the same rule and symbol
    within MOVED_WITHIN_MS, the nearest first, count as one moved alert instead.
    """

    def __init__(self) -> None:
        self._counts: dict[str, _Counts] = defaultdict(_Counts)
        self._unmatched: dict[tuple[str, str], _Unmatched] = defaultdict(_Unmatched)

    def take(self, before: Iterable[Entry], after: Iterable[Entry]) -> None:
        """Take the alerts that the same candles gave with the rules before and after."""
        old, new = ({(e.rule_type, e.symbol, e.open_time_ms) for e in some} for some in (before, after))
        for rule_type, *_ in old & new:
            self._counts[rule_type].kept += 1
        for rule_type, symbol, time_ms in old - new:
            self._unmatched[rule_type, symbol].gone.append(time_ms)
        for rule_type, symbol, time_ms in new - old:
            self._unmatched[rule_type, symbol].come.append(time_ms)
        newest_ms = max((time_ms for *_, time_ms in old | new), default=0)
        for key, unmatched in list(self._unmatched.items()):
            if unmatched.newest_ms < newest_ms - MOVED_WITHIN_MS or len(unmatched) > UNMATCHED_MAX:
                self._settle(key)

    def _settle(self, key: tuple[str, str]) -> None:
        unmatched, counts = self._unmatched.pop(key), self._counts[key[0]]
        moved = _pairs(unmatched.gone, unmatched.come)
        counts.moved += moved
        counts.removed += len(unmatched.gone) - moved
        counts.added += len(unmatched.come) - moved

    def counts(self) -> dict[str, tuple[int, int, int, int]]:
        """Return rule_type -> kept, added, removed, moved; sorted by name. Call it after all alerts."""
        for key in list(self._unmatched):
            self._settle(key)
        return {
            rule_type: (found.kept, found.added, found.removed, found.moved)
            for rule_type, found in sorted(self._counts.items())
        }


def _pairs(gone: list[int], come: list[int]) -> int:
    """Return how many pairs are within the limit, the nearest first; each alert in one pair at most."""
    near = sorted(
        (abs(new - old), old, new) for old in gone for new in come if abs(new - old) <= MOVED_WITHIN_MS
    )
    taken_old: set[int] = set()
    taken_new: set[int] = set()
    for _, old, new in near:
        if old not in taken_old and new not in taken_new:
            taken_old.add(old)
            taken_new.add(new)
    return len(taken_old)
