"""Two sets of alerts side by side: what a change of the rules adds, removes and moves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from app.backtest.run import Entry
from app.candles.batch import MINUTE_MS

MOVED_WITHIN_MS = 15 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Comparison:
    """Alerts are the same if rule_type, symbol and minute are.

    moved: (before, after), an alert gone and one come of the same rule and symbol within MOVED_WITHIN_MS;
    such are neither removed nor added. All in order of time.
    """

    kept: list[Entry]
    added: list[Entry]
    removed: list[Entry]
    moved: list[tuple[Entry, Entry]]

    def counts(self) -> dict[str, tuple[int, int, int, int]]:
        """rule_type -> kept, added, removed, moved; sorted by name."""
        found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for at, entries in enumerate((self.kept, self.added, self.removed, [old for old, _ in self.moved])):
            for entry in entries:
                found[entry.rule_type][at] += 1
        return {
            rule: (kept, added, removed, moved)
            for rule, (kept, added, removed, moved) in sorted(found.items())
        }


def compare(before: Iterable[Entry], after: Iterable[Entry]) -> Comparison:
    old = {(entry.rule_type, entry.symbol, entry.open_time_ms): entry for entry in before}
    new = {(entry.rule_type, entry.symbol, entry.open_time_ms): entry for entry in after}
    kept = sorted(new[key] for key in new.keys() & old.keys())
    gone: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    come: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for key in old.keys() - new.keys():
        gone[key[:2]].append(old[key])
    for key in new.keys() - old.keys():
        come[key[:2]].append(new[key])
    moved: list[tuple[Entry, Entry]] = []
    for pair, left in gone.items():
        moved += _pairs(sorted(left), sorted(come.get(pair, [])))
    once, again = {old for old, _ in moved}, {new for _, new in moved}
    removed = sorted(entry for entries in gone.values() for entry in entries if entry not in once)
    added = sorted(entry for entries in come.values() for entry in entries if entry not in again)
    return Comparison(kept, added, removed, sorted(moved))


def _pairs(gone: list[Entry], come: list[Entry]) -> list[tuple[Entry, Entry]]:
    """Pairs within the limit, the nearest first; each alert in one pair at most."""
    near = sorted(
        (abs(new.open_time_ms - old.open_time_ms), old, new)
        for old in gone
        for new in come
        if abs(new.open_time_ms - old.open_time_ms) <= MOVED_WITHIN_MS
    )
    taken: set[Entry] = set()
    pairs = []
    for _, old, new in near:
        if old not in taken and new not in taken:
            taken |= {old, new}
            pairs.append((old, new))
    return pairs
