"""Indicators recomputed the slow way, straight from their definitions, from every minute since the beginning.

It uses plain loops over lists, and shares no code with app.market.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from tests.support.market_oracle import MINUTES, Series

Found = dict[str, float | None]


@dataclass(frozen=True)
class Bar:
    open: float
    high: float
    low: float
    close: float
    quote_volume: float


def bar(series: Series, first: int, last: int) -> Bar | None:
    """Return the bar of the minutes first .. last; None if one of them is missing."""
    try:
        minutes = [series[m] for m in range(first, last + 1)]
    except KeyError:
        return None
    return Bar(
        minutes[0].open, max(m.high for m in minutes), min(m.low for m in minutes), minutes[-1].close,
        math.fsum(m.quote_volume for m in minutes),
    )  # fmt: skip


def past_bar(series: Series, n: int, number: int) -> Bar | None:
    return bar(series, number * n, number * n + n - 1)


def run_of_bars(series: Series, n: int, t: int) -> list[Bar]:
    """Return the bars without a gap up to the bar of minute t, as it is at t; empty if that bar has a gap."""
    number = t // n
    current = bar(series, number * n, t)
    if current is None:
        return []
    run = [current]
    while (earlier := past_bar(series, n, number - len(run))) is not None:
        run.append(earlier)
    return run[::-1]


def ema(values: list[float], period: int) -> list[float | None]:
    if len(values) < period:
        return [None] * len(values)
    result: list[float | None] = [None] * (period - 1)
    value = math.fsum(values[:period]) / period
    result.append(value)
    for following in values[period:]:
        value = value + (following - value) * 2 / (period + 1)
        result.append(value)
    return result


def wilder(values: list[float], period: int) -> float | None:
    if len(values) < period:
        return None
    value = math.fsum(values[:period]) / period
    for following in values[period:]:
        value = (value * (period - 1) + following) / period
    return value


def macd(closes: list[float]) -> tuple[float, float, float] | None:
    if len(closes) < 34:
        return None
    # Both averages begin at the 26th bar: the fast one from the 12 bars that end there.
    slow = [v for v in ema(closes, 26) if v is not None]
    fast = [v for v in ema(closes[14:], 12) if v is not None]
    difference = [f - s for f, s in zip(fast, slow, strict=True)]
    signal = ema(difference, 9)[-1]
    assert signal is not None
    return difference[-1], signal, difference[-1] - signal


def bar_metrics(series: Series, t: int) -> Found:
    """Return every bar field of every timeframe at minute t."""
    found: Found = {}
    for name, n in MINUTES.items():
        run = run_of_bars(series, n, t)
        closes = [b.close for b in run]
        steps = [b - a for a, b in pairwise(closes)]
        gain, loss = wilder([max(s, 0.0) for s in steps], 14), wilder([max(-s, 0.0) for s in steps], 14)
        rsi = None
        if gain is not None and loss is not None:
            rsi = 100 * gain / (gain + loss) if gain + loss >= 1e-14 else 0.0
        ranges = [max(b.high - b.low, abs(b.high - a.close), abs(b.low - a.close)) for a, b in pairwise(run)]
        lines = macd(closes) or (None, None, None)
        last = closes[-20:]
        mean = deviation = None
        if len(last) == 20:
            mean = math.fsum(last) / 20
            deviation = math.sqrt(math.fsum((c - mean) ** 2 for c in last) / 20)
        fields = {
            "rsi_14": rsi, "atr_14": wilder(ranges, 14),
            "ema_20": (ema(closes, 20) or [None])[-1], "ema_50": (ema(closes, 50) or [None])[-1],
            "macd": lines[0], "macd_signal": lines[1], "macd_hist": lines[2],
            "bb_middle": mean,
            "bb_upper": mean + 2 * deviation if mean is not None and deviation is not None else None,
            "bb_lower": mean - 2 * deviation if mean is not None and deviation is not None else None,
        }  # fmt: skip
        found |= {f"{field}_{name}": value for field, value in fields.items()}
    return found


def middle(bars: list[Bar | None]) -> float | None:
    known = [b for b in bars if b is not None]
    if len(known) < len(bars):
        return None
    return (max(b.high for b in known) + min(b.low for b in known)) / 2


def cloud(series: Series, t: int) -> Found:
    number = t // 15
    past = [past_bar(series, 15, number - back) for back in range(77, 0, -1)]
    bars = [*past, bar(series, number * 15, t)]
    displaced = bars[:52]
    conversion, base = middle(displaced[-9:]), middle(displaced[-26:])
    return {
        "ichimoku_conversion_15m": middle(bars[-9:]),
        "ichimoku_base_15m": middle(bars[-26:]),
        "ichimoku_span_a_15m": None if conversion is None or base is None else (conversion + base) / 2,
        "ichimoku_span_b_15m": middle(displaced),
    }


def bubble(series: Series, t: int, name: str, history: int, sizes: tuple[float, float, float]) -> Found:
    n = MINUTES[name]
    number = t // n
    current = bar(series, number * n, t)
    past = [b.quote_volume for back in range(1, history + 1) if (b := past_bar(series, n, number - back))]
    found: Found = dict.fromkeys((f"bubble_z_{name}", f"bubble_size_{name}", f"bubble_side_{name}"))
    if current is None or len(past) < 20:
        return found
    mean = math.fsum(past) / len(past)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in past) / len(past))
    if deviation == 0:
        return found
    z = (current.quote_volume - mean) / deviation
    change = current.close / current.open - 1
    size = sum(z >= least for least in sizes) if abs(change) >= 0.001 else 0
    side = 0 if size == 0 else math.copysign(1, change)
    return {f"bubble_z_{name}": z, f"bubble_size_{name}": float(size), f"bubble_side_{name}": float(side)}


def surge(series: Series, t: int, closed: bool) -> Found:
    number = t // 5 if closed and t % 5 == 4 else t // 5 - 1
    bars = [past_bar(series, 5, number - back) for back in range(22, -1, -1)]
    known = [b for b in bars if b is not None]
    found: Found = {"surge_ratio_5m": None, "surge_side_5m": None}
    if len(known) < 23:
        return found
    mean = math.fsum(b.quote_volume for b in known[:20]) / 20
    if mean == 0:
        return found
    a, b, c = (bar.close for bar in known[20:])
    side = 1.0 if a < b < c else -1.0 if a > b > c else 0.0
    return {"surge_ratio_5m": min(b.quote_volume for b in known[20:]) / mean, "surge_side_5m": side}


def formation_metrics(series: Series, t: int, closed: bool) -> Found:
    """Return the single columns that are computed from bars, at minute t."""
    return {
        **cloud(series, t),
        **bubble(series, t, "5m", 60, (1.5, 2.5, 3.5)),
        **bubble(series, t, "15m", 80, (1.2, 2.0, 3.0)),
        **surge(series, t, closed),
    }
