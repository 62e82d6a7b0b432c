"""The names of every metric column, in the order in which frames carry them.

A column is `field_timeframe`; the few that have no timeframe stand at the end. All are float64, NaN is null.

| field (per timeframe N) | unit, meaning |
|---|---|
| open high low close | price; first, highest, lowest, last of the sliding window |
| base_volume quote_volume | window sums, base and quote asset (`volume_N` in rules is quote_volume_N) |
| trades | window sum, count |
| vwap | quote_volume / base_volume; null if base_volume is 0 |
| price_change | percent against the close N minutes earlier |
| volume_ratio | quote volume of the window / that of the N minutes before; null if that is 0 |
| coverage | minutes present / N, 0..1; never null |
| vcp | close / vwap * ((close - low) - (high - close)) / (high - low); 0 if high = low, else null with vwap |
| rsi_14 macd macd_signal macd_hist bb_upper bb_middle bb_lower atr_14 ema_20 ema_50 | on clock-aligned bars |
| fib_pivot fib_r1 fib_r2 fib_r3 fib_s1 fib_s2 fib_s3 | pivots of the sliding window |
"""

from __future__ import annotations

from typing import Final

from app.market.timeframes import TIMEFRAMES

WINDOW_FIELDS: Final = (
    "open",
    "high",
    "low",
    "close",
    "base_volume",
    "quote_volume",
    "trades",
    "vwap",
    "price_change",
    "volume_ratio",
    "coverage",
    "vcp",
)
PIVOT_FIELDS: Final = ("fib_pivot", "fib_r1", "fib_r2", "fib_r3", "fib_s1", "fib_s2", "fib_s3")
BAR_FIELDS: Final = (
    "rsi_14",
    "macd",
    "macd_signal",
    "macd_hist",
    "bb_upper",
    "bb_middle",
    "bb_lower",
    "atr_14",
    "ema_20",
    "ema_50",
)
FIELDS: Final = WINDOW_FIELDS + PIVOT_FIELDS + BAR_FIELDS
"""Fields that every timeframe has."""

SINGLE_COLUMNS: Final = (
    # from 00:00 UTC, and from Monday 00:00 UTC; null if a minute of the period so far is missing
    "vwap_day",
    "vwap_week",
    # on 15m bars, spans as displaced: the cloud at a bar is the one computed 26 bars earlier
    "ichimoku_conversion_15m",
    "ichimoku_base_15m",
    "ichimoku_span_a_15m",
    "ichimoku_span_b_15m",
    # volume bubble of the current bar: z-score; size 0 none, 1 small, 2 medium, 3 large; side -1, 0, +1
    "bubble_z_5m",
    "bubble_size_5m",
    "bubble_side_5m",
    "bubble_z_15m",
    "bubble_size_15m",
    "bubble_side_15m",
    # over the last three closed 5m bars: least quote volume of the three / mean of the 20 bars before them,
    # and +1 if their closes rise throughout, -1 if they fall, 0 otherwise
    "surge_ratio_5m",
    "surge_side_5m",
    # high and low of the last ten one-minute candles
    "high_10m",
    "low_10m",
)

METRIC_COLUMNS: Final[tuple[str, ...]] = (
    tuple(f"{field}_{timeframe}" for timeframe in TIMEFRAMES for field in FIELDS) + SINGLE_COLUMNS
)

COLUMN_POSITION: Final[dict[str, int]] = {name: i for i, name in enumerate(METRIC_COLUMNS)}
