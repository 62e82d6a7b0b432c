"""A market as the oracles know it, to compare with a matrix fed with the same rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from app.market.metrics import MetricsBatch
from tests.support.market_bars_oracle import bar_metrics, formation_metrics
from tests.support.market_batches import Row
from tests.support.market_oracle import Minute, Series, window_metrics

TOLERANCE = 1e-9


def random_minute(rng: np.random.Generator) -> Minute:
    """Return a minute with prices over two orders of magnitude and volumes over ten; one in five has no volume."""
    low, high = sorted(np.exp(rng.normal(0.0, 1.0, 2)).tolist())
    opened, closed = rng.uniform(low, high, 2).tolist()
    volume = 0.0 if rng.random() < 0.2 else float(np.exp(rng.normal(0.0, 6.0)))
    return Minute(opened, high, low, closed, volume, volume * (low + high) / 2, int(rng.integers(0, 99)))


class MarketModel:
    """Every closed minute of every symbol so far."""

    def __init__(self) -> None:
        self.closed: dict[str, Series] = {}

    def take(self, rows: Iterable[Row]) -> None:
        for symbol, minute, candle, closed in rows:
            if closed:
                self.closed.setdefault(symbol, {})[minute] = candle

    def expected(self, symbol: str, t: int, forming: Minute | None) -> dict[str, float | None]:
        """Return every metric column at minute t."""
        series = {m: c for m, c in self.closed.get(symbol, {}).items() if m <= t}
        if forming is not None:
            series[t] = forming
        return {
            **window_metrics(series, t),
            **bar_metrics(series, t),
            **formation_metrics(series, t, closed=forming is None),
        }

    def check(self, metrics: MetricsBatch, rows: Sequence[Row], which: Iterable[int]) -> None:
        """Check the rows `which` of the metrics computed from the candles `rows`."""
        for row in which:
            symbol, t = metrics.symbol_of(row), int(metrics.open_time_ms[row]) // 60_000
            forming = None if metrics.closed[row] else rows[int(metrics.event_ts_ms[row])][2]
            found = dict(zip(metrics.columns, metrics.values[row].tolist(), strict=True))
            check_values(
                found, self.expected(symbol, t, forming), f"{symbol} {t} closed={metrics.closed[row]}"
            )


def check_values(found: dict[str, float], expected: dict[str, float | None], where: str) -> None:
    """Require equality within 1e-9 of the value; for differences of prices, within 1e-9 of the price."""
    assert found.keys() <= expected.keys(), found.keys() - expected.keys()
    price = found.get("high_1d", math.nan)
    for name, value in found.items():
        wanted = expected[name]
        if wanted is None or math.isnan(wanted):
            assert math.isnan(value), f"{where} {name}: {value}, expected null"
            continue
        scale = abs(wanted)
        if name.startswith(("macd", "bb_lower", "fib_", "bubble_z", "vcp", "price_change", "rsi")):
            scale = max(scale, 1.0, price if price == price else 10.0)
        assert abs(value - wanted) <= TOLERANCE * scale, f"{where} {name}: {value}, expected {wanted}"
