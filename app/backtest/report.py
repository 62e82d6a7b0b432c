"""The results of a backtest in one object, for the terminal, for JSON and for a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NotRequired, TypedDict

from app.backtest.backtest import Backtest, CandleCounts
from app.backtest.compare import AlertComparison
from app.backtest.forward import ForwardReturns
from app.backtest.outcomes import RuleOutcome, RuleOutcomeDocument
from app.candles.batch import MINUTE_MS
from app.rules.rule import Rule
from app.times import rfc3339

# the functional form: `from` is a word of Python
ReportDocument = TypedDict(
    "ReportDocument",
    {
        "mode": str,
        "candles": int,
        "invalid": int,
        "refused": dict[str, int],
        "duplicates": int,
        "symbols": int,
        "from": str,
        "to": str,
        "alerts": int,
        "rules": list[RuleOutcomeDocument],
        "could_not_fire": list[str],
        "compared": NotRequired[dict[str, dict[str, int]]],
    },
)
"""A `Report` as JSON. refused: reason -> candles. compared: rule -> how many alerts were kept, added, removed,
moved."""


@dataclass(frozen=True, slots=True)
class Report:
    """first_ms, last_ms: open times of the first and last minute, UTC; 0 and minutes 0 without a candle."""

    mode: str
    rules: tuple[Rule, ...]
    counts: CandleCounts
    symbols: int
    first_ms: int
    minutes: int
    outcomes: tuple[RuleOutcome, ...]
    alerts: int
    comparison: AlertComparison | None = None

    @classmethod
    def of(
        cls,
        backtest: Backtest,
        returns: ForwardReturns,
        mode: str,
        comparison: AlertComparison | None = None,
    ) -> Report:
        """returns: has taken all steps of the backtest."""
        return cls(
            mode=mode,
            rules=backtest.book.rules,
            counts=backtest.counts,
            symbols=len(returns.prices.symbols),
            first_ms=returns.prices.first_ms,
            minutes=returns.prices.minutes,
            outcomes=returns.outcomes(backtest.awake_ms),
            alerts=returns.alerts,
            comparison=comparison,
        )

    @property
    def last_ms(self) -> int:
        return self.first_ms + max(0, self.minutes - 1) * MINUTE_MS

    def silent(self) -> tuple[str, ...]:
        """Return rules whose metrics were never whole in the whole period, so that they could not fire."""
        known = {outcome.rule_type for outcome in self.outcomes}
        return tuple(rule.rule_type for rule in self.rules if rule.rule_type not in known)

    def as_dict(self) -> ReportDocument:
        found: ReportDocument = {
            "mode": self.mode,
            "candles": self.counts.candles,
            "invalid": self.counts.invalid,
            "refused": {str(reason): count for reason, count in self.counts.refused.most_common()},
            "duplicates": self.counts.duplicates,
            "symbols": self.symbols,
            "from": rfc3339(self.first_ms),
            "to": rfc3339(self.last_ms),
            "alerts": self.alerts,
            "rules": [outcome.as_dict() for outcome in self.outcomes],
            "could_not_fire": list(self.silent()),
        }
        if self.comparison is not None:
            names = ("kept", "added", "removed", "moved")
            counts = self.comparison.counts()
            found["compared"] = {rule: dict(zip(names, row, strict=True)) for rule, row in counts.items()}
        return found
