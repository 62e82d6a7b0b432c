"""What came after the alerts of each rule, compared with random entries at the same symbols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self, TypedDict

import numpy as np

from app.backtest.random_entries import p_value
from app.backtest.tally import ListedAlert, RuleTally, Sample, Sums
from app.candles.batch import FloatArray
from app.times import rfc3339

HORIZONS: Final[dict[str, int]] = {"5m": 5, "15m": 15, "1h": 60, "4h": 240}
"""Name -> minutes after the alert's minute."""
_BINS: Final = 41
_MIDDLE: Final = (1.0, 99.0)
"""Percentiles between which a distribution is drawn; its outer bins hold what lies beyond too."""


class Figures(TypedDict):
    mean_pct: float | None
    median_pct: float | None
    hit_pct: float | None


class OutcomeDocument(Figures):
    known: int
    random: Figures
    p_value: float | None


class MonthFigures(TypedDict):
    known: int
    mean_pct: float | None
    hit_pct: float | None


class MonthDocument(TypedDict):
    """after: horizon -> what came after."""

    month: str
    fires: int
    after: dict[str, MonthFigures]


class RuleOutcomeDocument(TypedDict):
    """A `RuleOutcome` as JSON. after: horizon -> what came after."""

    rule_type: str
    fires: int
    per_day: float
    symbols: int
    sampled: int
    after: dict[str, OutcomeDocument]
    months: list[MonthDocument]


@dataclass(frozen=True, slots=True)
class Returns:
    """Forward returns in percent; hit_pct is the share above 0. None without known returns."""

    mean_pct: float | None
    median_pct: float | None
    hit_pct: float | None

    @classmethod
    def of(cls, known: FloatArray) -> Returns:
        if not len(known):
            return cls(None, None, None)
        hits = float(np.count_nonzero(known > 0)) / len(known) * 100
        return cls(float(known.mean()), float(np.median(known)), hits)


@dataclass(frozen=True, slots=True)
class Distribution:
    """Shares of returns (0 to 1) in bins from lowest_pct to highest_pct, of equal width; the outer bins hold what
    lies beyond too. random: () without random entries."""

    lowest_pct: float
    highest_pct: float
    alerts: tuple[float, ...]
    random: tuple[float, ...]

    @classmethod
    def of(cls, alerts: FloatArray, random: FloatArray) -> Self | None:
        """alerts, random: known returns. None without alerts."""
        if not len(alerts):
            return None
        ends = [np.percentile(some, _MIDDLE) for some in (alerts, random) if len(some)]
        furthest = float(np.abs(ends).max()) or 1.0
        return cls(-furthest, furthest, _shares(alerts, furthest), _shares(random, furthest))


def _shares(returns_pct: FloatArray, furthest: float) -> tuple[float, ...]:
    if not len(returns_pct):
        return ()
    inside = np.clip(returns_pct, -furthest, furthest)
    counts, _ = np.histogram(inside, bins=_BINS, range=(-furthest, furthest))
    return tuple((counts / len(returns_pct)).tolist())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came after the alerts of a rule over one horizon. known: alerts whose return is known. p_value: None with
    fewer than two of them."""

    horizon: str
    known: int
    alerts: Returns
    random: Returns
    p_value: float | None
    distribution: Distribution | None = None

    @classmethod
    def of(cls, horizon: str, at: int, whole: Sums, sample: Sample, moved: FloatArray | None) -> Outcome:
        """at: the horizon's place. Means and shares are of all alerts, the rest of the sample; `moved` as
        `moved_returns` gives it, None without random entries."""
        known = int(whole.known[at])
        actual = sample.returns_pct[:, at]
        actual = actual[~np.isnan(actual)]
        alerts = Returns.of(actual)
        if known:
            hits = float(whole.hits[at]) / known * 100
            alerts = Returns(float(whole.sum_pct[at]) / known, alerts.median_pct, hits)
        if moved is None or len(actual) < 2:
            nothing = np.zeros(0)
            return cls(horizon, known, alerts, Returns.of(nothing), None, Distribution.of(actual, nothing))
        random = moved[~np.isnan(moved)]
        drawn = Distribution.of(actual, random)
        return cls(horizon, known, alerts, Returns.of(random), p_value(actual, moved), drawn)

    def as_dict(self) -> OutcomeDocument:
        return {
            "known": self.known,
            **_figures(self.alerts),
            "random": _figures(self.random),
            "p_value": self.p_value,
        }


def _figures(found: Returns) -> Figures:
    return {"mean_pct": found.mean_pct, "median_pct": found.median_pct, "hit_pct": found.hit_pct}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Alerts of a month or of another stretch of time, from start_ms (UTC). known, sum_pct, hits: per horizon."""

    start_ms: int
    fires: int
    known: tuple[int, ...]
    sum_pct: tuple[float, ...]
    hits: tuple[int, ...]

    @classmethod
    def of(cls, start_ms: int, sums: Sums) -> Self:
        known, sum_pct, hits = sums.known.tolist(), sums.sum_pct.tolist(), sums.hits.tolist()
        return cls(start_ms, sums.fires, tuple(known), tuple(sum_pct), tuple(hits))

    def mean_pct(self, at: int) -> float | None:
        return self.sum_pct[at] / self.known[at] if self.known[at] else None

    def hit_pct(self, at: int) -> float | None:
        return self.hits[at] / self.known[at] * 100 if self.known[at] else None


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """What came after the alerts of one rule. per_day: alerts per day since its windows were first whole, so that it
    could fire. months, stretches: those with alerts, in order of time. newest: the last alerts, in order of time.
    sampled: alerts behind medians and random entries."""

    rule_type: str
    fires: int
    per_day: float
    symbols: int
    outcomes: tuple[Outcome, ...]
    months: tuple[Stretch, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    newest: tuple[ListedAlert, ...] = ()
    sampled: int = 0

    @classmethod
    def of(cls, rule_type: str, tally: RuleTally, days: float, outcomes: tuple[Outcome, ...]) -> Self:
        return cls(
            rule_type=rule_type,
            fires=tally.whole.fires,
            per_day=tally.whole.fires / days,
            symbols=len(tally.symbols),
            outcomes=outcomes,
            months=tuple(Stretch.of(start_ms, sums) for start_ms, sums in sorted(tally.months.items())),
            stretches=tuple(Stretch.of(start_ms, sums) for start_ms, sums in tally.stretches.by_time()),
            newest=tuple(tally.newest),
            sampled=len(tally.sample.minutes),
        )

    def as_dict(self) -> RuleOutcomeDocument:
        return {
            "rule_type": self.rule_type,
            "fires": self.fires,
            "per_day": self.per_day,
            "symbols": self.symbols,
            "sampled": self.sampled,
            "after": {outcome.horizon: outcome.as_dict() for outcome in self.outcomes},
            "months": [self._month(month) for month in self.months],
        }

    def _month(self, month: Stretch) -> MonthDocument:
        after: dict[str, MonthFigures] = {
            outcome.horizon: {
                "known": month.known[at],
                "mean_pct": month.mean_pct(at),
                "hit_pct": month.hit_pct(at),
            }
            for at, outcome in enumerate(self.outcomes)
        }
        return {"month": rfc3339(month.start_ms)[:7], "fires": month.fires, "after": after}
