"""Metrics recomputed the slow way, straight from the definitions, from a plain record of every minute.

It shares no code with app.market: a dictionary per symbol, Python loops, math.fsum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MINUTES = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "8h": 480, "1d": 1440}


@dataclass(frozen=True)
class Minute:
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trades: int


Series = dict[int, Minute]
"""Minute since 1970 -> candle."""


def _window(series: Series, last: int, n: int) -> list[Minute] | None:
    try:
        return [series[m] for m in range(last - n + 1, last + 1)]
    except KeyError:
        return None


def window_metrics(series: Series, t: int) -> dict[str, float | None]:
    """Return every window and pivot field of every timeframe at minute t, and the single columns without bars.

    `series` holds the closed minutes up to t, and t itself, which may be forming.
    """
    found: dict[str, float | None] = {}
    for name, n in MINUTES.items():
        window = _window(series, t, n)
        found[f"coverage_{name}"] = sum(m in series for m in range(t - n + 1, t + 1)) / n
        first = series.get(t - n + 1)
        found[f"open_{name}"] = first and first.open
        found[f"close_{name}"] = close = series[t].close
        before = series.get(t - n)
        found[f"price_change_{name}"] = (close / before.close - 1) * 100 if before else None
        for field in ("high", "low", "base_volume", "quote_volume", "trades", "vwap", "volume_ratio", "vcp"):
            found[f"{field}_{name}"] = None
        for field in ("fib_pivot", *(f"fib_{s}{i}" for s in "rs" for i in (1, 2, 3))):
            found[f"{field}_{name}"] = None
        if window is None:
            continue
        high, low = max(m.high for m in window), min(m.low for m in window)
        volume = math.fsum(m.volume for m in window)
        quote = math.fsum(m.quote_volume for m in window)
        found[f"high_{name}"], found[f"low_{name}"] = high, low
        found[f"base_volume_{name}"], found[f"quote_volume_{name}"] = volume, quote
        found[f"trades_{name}"] = float(sum(m.trades for m in window))
        vwap = found[f"vwap_{name}"] = quote / volume if volume else None
        earlier = _window(series, t - n, n)
        if earlier is not None:
            denominator = math.fsum(m.quote_volume for m in earlier)
            found[f"volume_ratio_{name}"] = quote / denominator if denominator else None
        if high == low:
            found[f"vcp_{name}"] = 0.0
        elif vwap:
            found[f"vcp_{name}"] = (close / vwap) * ((close - low) - (high - close)) / (high - low)
        elif vwap == 0.0:
            found[f"vcp_{name}"] = math.nan
        pivot = found[f"fib_pivot_{name}"] = (high + low + close) / 3
        for level, ratio in ((1, 0.382), (2, 0.618), (3, 1.0)):
            found[f"fib_r{level}_{name}"] = pivot + ratio * (high - low)
            found[f"fib_s{level}_{name}"] = pivot - ratio * (high - low)
    return found | _single_metrics(series, t)


def _single_metrics(series: Series, t: int) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    ten = _window(series, t, 10)
    found["high_10m"] = max(m.high for m in ten) if ten else None
    found["low_10m"] = min(m.low for m in ten) if ten else None
    day = t - t % 1440
    monday = t - (t - 4 * 1440) % (7 * 1440)  # 1970-01-05 was a Monday
    for name, start in (("vwap_day", day), ("vwap_week", monday)):
        since = _window(series, t, t - start + 1)
        volume = math.fsum(m.volume for m in since) if since else 0.0
        found[name] = math.fsum(m.quote_volume for m in since) / volume if since and volume else None
    return found
