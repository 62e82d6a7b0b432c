"""Returns after alerts, computed from all closes and all alerts at once: the streamed figures must equal them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from app.backtest.backtest import Entry
from app.candles.batch import MINUTE_MS, CandleBatch
from app.times import rfc3339

MOVES = 499


class WholeHistory:
    """closes: shape (minutes, symbols), NaN without a candle; the later candle of a minute wins."""

    def __init__(self, candles: CandleBatch) -> None:
        minutes = candles.open_time_ms // MINUTE_MS
        self.first = int(minutes.min())
        self.column = {symbol: at for at, symbol in enumerate(candles.symbols)}
        self.closes = np.full((int(minutes.max()) - self.first + 1, len(candles.symbols)), np.nan)
        for minute, at, close in zip(minutes, candles.symbol_index, candles.close, strict=True):
            self.closes[minute - self.first, at] = close

    def returns_pct(self, minutes: int) -> np.ndarray:
        returns = np.full(self.closes.shape, np.nan)
        if len(returns) > minutes:
            returns[:-minutes] = (self.closes[minutes:] / self.closes[:-minutes] - 1) * 100
        return returns


def figures(known: np.ndarray) -> dict[str, float | None]:
    if not len(known):
        return {"mean_pct": None, "median_pct": None, "hit_pct": None}
    return {
        "mean_pct": sum(known.tolist()) / len(known),
        "median_pct": float(np.median(known)),
        "hit_pct": sum(value > 0 for value in known.tolist()) / len(known) * 100,
    }


def whole_outcomes(
    history: WholeHistory, entries: Sequence[Entry], awake_ms: Mapping[str, int], horizons: Mapping[str, int]
) -> dict[str, dict[str, object]]:
    """Return rule_type -> the fields of `RuleOutcome.as_dict`. p_value: its lowest and highest possible value, since
    rounding decides about moves that do exactly as well as the alerts."""
    found = {}
    for rule_type in sorted({*awake_ms, *(entry.rule_type for entry in entries)}):
        alerts = [entry for entry in entries if entry.rule_type == rule_type]
        start = max(0, awake_ms.get(rule_type, 0) // MINUTE_MS - history.first)
        days = (len(history.closes) - start) / 1440
        found[rule_type] = {
            "fires": len(alerts),
            "per_day": len(alerts) / days,
            "symbols": len({alert.symbol for alert in alerts}),
            "after": {name: _after(history, alerts, start, minutes) for name, minutes in horizons.items()},
            "months": _months(history, alerts, horizons),
        }
    return found


def _actual(history: WholeHistory, alerts: Sequence[Entry], minutes: int) -> np.ndarray:
    returns = history.returns_pct(minutes)
    values = [returns[a.open_time_ms // MINUTE_MS - history.first, history.column[a.symbol]] for a in alerts]
    found = np.array(values, np.float64)
    return found[~np.isnan(found)]


def _after(history: WholeHistory, alerts: Sequence[Entry], start: int, minutes: int) -> dict[str, object]:
    actual = _actual(history, alerts, minutes)
    returns = history.returns_pct(minutes)[start:]
    nothing = {"known": len(actual), **figures(actual), "random": figures(np.zeros(0)), "p_value": None}
    if len(actual) < 2 or len(returns) < 2:
        return nothing
    period = len(returns)
    moves = np.arange(1, period)
    if period - 1 > MOVES:
        moves = np.random.default_rng(1).choice(moves, MOVES, replace=False)
    means, every = [], []
    for move in moves.tolist():
        moved = []
        for alert in alerts:
            row = alert.open_time_ms // MINUTE_MS - history.first - start
            moved.append(returns[(row + move) % period, history.column[alert.symbol]])
        known = [value for value in moved if not np.isnan(value)]
        every += known
        means += [sum(known) / len(known)] if known else []
    centre = sum(means) / len(means)
    distance = abs(sum(actual.tolist()) / len(actual) - centre)
    further, as_far = (
        sum(abs(mean - centre) >= distance + rounding for mean in means) for rounding in (1e-9, -1e-9)
    )
    p_value = ((1 + further) / (1 + len(means)), (1 + as_far) / (1 + len(means)))
    return {**nothing, "random": figures(np.array(every)), "p_value": p_value}


def _months(
    history: WholeHistory, alerts: Sequence[Entry], horizons: Mapping[str, int]
) -> list[dict[str, object]]:
    by_month: dict[str, list[Entry]] = defaultdict(list)
    for alert in alerts:
        by_month[rfc3339(alert.open_time_ms)[:7]].append(alert)
    return [
        {
            "month": month,
            "fires": len(inside),
            "after": {
                name: {
                    "known": len(actual := _actual(history, inside, minutes)),
                    "mean_pct": figures(actual)["mean_pct"],
                    "hit_pct": figures(actual)["hit_pct"],
                }
                for name, minutes in horizons.items()
            },
        }
        for month, inside in sorted(by_month.items())
    ]
