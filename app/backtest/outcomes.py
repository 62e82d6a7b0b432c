"""What followed the alerts of each rule, beside what followed random entries at the same symbols.

The random entries of a rule are all its alerts moved together by a random time, round the end of the period
to its beginning. So they have the same symbols and the same clusters as the alerts: a crash in which seventy
symbols fire at once counts as about one event, not as seventy independent ones, which keeps the p-value
honest. p is two-sided: the share of such moves (with the alerts themselves among them) whose mean return
lies at least as far from the moves' average as that of the alerts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.backtest.prices import ClosePrices
from app.backtest.run import Entry
from app.candles.batch import MINUTE_MS, FloatArray

HORIZONS: Final[dict[str, int]] = {"5m": 5, "15m": 15, "1h": 60, "4h": 240}
"""Name -> minutes after the alert's minute."""

MOVES: Final = 499
"""So that p can be as low as 0.002."""
_MINUTES_PER_DAY: Final = 1440


@dataclass(frozen=True, slots=True)
class Returns:
    """Forward returns in percent; hit_pct is the share above 0. None where nothing is known."""

    mean_pct: float | None
    median_pct: float | None
    hit_pct: float | None

    @classmethod
    def of(cls, returns_pct: FloatArray) -> Returns:
        known = returns_pct[~np.isnan(returns_pct)]
        if not len(known):
            return cls(None, None, None)
        hits = float(np.count_nonzero(known > 0)) / len(known) * 100
        return cls(float(known.mean()), float(np.median(known)), hits)


@dataclass(frozen=True, slots=True)
class Outcome:
    """known: alerts whose return over this horizon is known. p_value: None with fewer than two of them."""

    horizon: str
    known: int
    alerts: Returns
    random: Returns
    p_value: float | None


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """per_day: over the days in which the rule could fire at all, its windows being whole."""

    rule_type: str
    fires: int
    per_day: float
    symbols: int
    outcomes: tuple[Outcome, ...]

    def as_dict(self) -> dict[str, Any]:
        def returns(found: Returns) -> dict[str, float | None]:
            return {"mean_pct": found.mean_pct, "median_pct": found.median_pct, "hit_pct": found.hit_pct}

        return {
            "rule_type": self.rule_type,
            "fires": self.fires,
            "per_day": self.per_day,
            "symbols": self.symbols,
            "after": {
                outcome.horizon: {
                    "known": outcome.known,
                    **returns(outcome.alerts),
                    "random": returns(outcome.random),
                    "p_value": outcome.p_value,
                }
                for outcome in self.outcomes
            },
        }


def measure(
    entries: Sequence[Entry],
    prices: ClosePrices,
    awake_ms: Mapping[str, int],
    horizons: Mapping[str, int] = HORIZONS,
    seed: int = 1,
) -> tuple[RuleOutcome, ...]:
    """One outcome per rule in `awake_ms` or with alerts, most alerts first, then by name.

    awake_ms: from when each rule could fire; random entries are drawn from there on. The same arguments give
    the same figures.
    """
    by_rule: dict[str, list[Entry]] = {rule_type: [] for rule_type in sorted(awake_ms)}
    for entry in entries:
        by_rule.setdefault(entry.rule_type, []).append(entry)
    returns = {name: prices.returns_pct(minutes) for name, minutes in horizons.items()}
    found = []
    for rule_type, alerts in by_rule.items():
        start = max(0, (awake_ms.get(rule_type, prices.first_ms) - prices.first_ms) // MINUTE_MS)
        awake_returns = {name: values[start:] for name, values in returns.items()}
        days = max(1, prices.minutes - start) / _MINUTES_PER_DAY
        rows = prices.rows_of(np.array([alert.open_time_ms for alert in alerts], np.int64)) - start
        columns = np.array([prices.symbols[alert.symbol] for alert in alerts], np.intp)
        outcomes = tuple(
            _outcome(name, values, rows, columns, np.random.default_rng(seed))
            for name, values in awake_returns.items()
        )
        symbols = len(set(columns.tolist()))
        found.append(RuleOutcome(rule_type, len(alerts), len(alerts) / days, symbols, outcomes))
    return tuple(sorted(found, key=lambda outcome: (-outcome.fires, outcome.rule_type)))


def _outcome(
    horizon: str,
    returns: FloatArray,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    rng: np.random.Generator,
) -> Outcome:
    actual = returns[rows, columns] if len(rows) else np.zeros(0)
    known = int(np.count_nonzero(~np.isnan(actual)))
    if known < 2 or len(returns) < 2:
        return Outcome(horizon, known, Returns.of(actual), Returns(None, None, None), None)
    moved = _moved(returns, rows, columns, _moves(len(returns), rng))
    return Outcome(horizon, known, Returns.of(actual), Returns.of(moved), _p_value(actual, moved))


def _moves(minutes: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Distinct moves other than none; all of them if there are no more than MOVES."""
    if minutes - 1 <= MOVES:
        return np.arange(1, minutes)
    return rng.choice(np.arange(1, minutes), MOVES, replace=False).astype(np.intp)


def _moved(
    returns: FloatArray, rows: NDArray[np.intp], columns: NDArray[np.intp], moves: NDArray[np.intp]
) -> FloatArray:
    """Shape (moves, alerts)."""
    moved = np.empty((len(moves), len(rows)))
    for at, move in enumerate(moves.tolist()):
        moved[at] = returns[(rows + move) % len(returns), columns]
    return moved


def _p_value(actual: FloatArray, moved: FloatArray) -> float | None:
    known = ~np.isnan(moved)
    counts = known.sum(axis=1)
    sums = np.where(known, moved, 0.0).sum(axis=1)
    means = sums[counts > 0] / counts[counts > 0]
    if not len(means):
        return None
    centre = means.mean()
    distance = abs(actual[~np.isnan(actual)].mean() - centre)
    as_far = np.count_nonzero(np.abs(means - centre) >= distance)
    return float(1 + as_far) / (1 + len(means))
