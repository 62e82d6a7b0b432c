"""Everything a backtest has to tell, in one object: for the terminal, for JSON, for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.backtest.compare import Comparison
from app.backtest.outcomes import RuleOutcome, measure
from app.backtest.run import Backtest, Counts, Entry
from app.candles.batch import MINUTE_MS
from app.rules.alert import rfc3339
from app.rules.rule import Rule


@dataclass(frozen=True, slots=True)
class Report:
    """first_ms, last_ms: open times of the first and last minute, UTC; 0 and minutes 0 without a candle."""

    mode: str
    rules: tuple[Rule, ...]
    counts: Counts
    symbols: int
    first_ms: int
    minutes: int
    outcomes: tuple[RuleOutcome, ...]
    entries: Sequence[Entry]
    comparison: Comparison | None = None

    @classmethod
    def of(cls, backtest: Backtest, mode: str, comparison: Comparison | None = None) -> Report:
        prices = backtest.prices
        return cls(
            mode=mode,
            rules=backtest.book.rules,
            counts=backtest.counts,
            symbols=len(prices.symbols),
            first_ms=prices.first_ms,
            minutes=prices.minutes,
            outcomes=measure(backtest.entries, prices, backtest.awake_ms),
            entries=tuple(backtest.entries),
            comparison=comparison,
        )

    @property
    def last_ms(self) -> int:
        return self.first_ms + max(0, self.minutes - 1) * MINUTE_MS

    def silent(self) -> tuple[str, ...]:
        """Rules whose metrics were never whole in the whole period, so that they could not fire."""
        known = {outcome.rule_type for outcome in self.outcomes}
        return tuple(rule.rule_type for rule in self.rules if rule.rule_type not in known)

    def as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "mode": self.mode,
            "candles": self.counts.candles,
            "invalid": self.counts.invalid,
            "duplicates": self.counts.duplicates,
            "symbols": self.symbols,
            "from": rfc3339(self.first_ms),
            "to": rfc3339(self.last_ms),
            "alerts": len(self.entries),
            "rules": [outcome.as_dict() for outcome in self.outcomes],
            "could_not_fire": list(self.silent()),
        }
        if self.comparison is not None:
            names = ("kept", "added", "removed", "moved")
            counts = self.comparison.counts()
            found["compared"] = {rule: dict(zip(names, row, strict=True)) for rule, row in counts.items()}
        return found
