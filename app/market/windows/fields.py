"""The window and pivot fields of a minute, from its windows.

`app/market/fields.py` defines them. Fibonacci pivots: pivot = (H + L + C) / 3, levels at 0.382, 0.618 and 1.0 of
the range H - L above and below it.
"""

from __future__ import annotations

import math
from typing import Final

from app.candles.batch import FloatArray
from app.compiled import inlined
from app.market.fields import COLUMN_POSITION, FIELDS, Need
from app.market.rings.head import Head, Now, earlier
from app.market.rings.layout import LENGTHS, TIMEFRAME_COUNT
from app.market.rings.records import Rings, Symbol
from app.market.windows.sliding import NO_SHORT, Short, quote_before, short_windows, window_at

_FIELD_COUNT: Final = len(FIELDS)
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _QUOTE, _TRADES, _VWAP, _CHANGE, _RATIO, _COVERAGE, _VCP, _PIVOT = (
    FIELDS.index(name)
    for name in (
        "open", "high", "low", "close", "base_volume", "quote_volume", "trades", "vwap", "price_change",
        "volume_ratio", "coverage", "vcp", "fib_pivot",
    )
)  # fmt: skip
_LEVELS: Final = tuple(
    (ratio, FIELDS.index(f"fib_r{k}"), FIELDS.index(f"fib_s{k}"))
    for k, ratio in enumerate((0.382, 0.618, 1.0), start=1)
)
_VOLUMES: Final = Need.VOLUME.value
_RANGES: Final = Need.EXTREMES.value
_SHORT: Final = 0b11
"""The timeframes that are added up directly: 1m and 5m."""
_HIGH_10M, _LOW_10M = COLUMN_POSITION["high_10m"], COLUMN_POSITION["low_10m"]


@inlined
def put_prices(rings: Rings, i: int, minute: int, now: Now, timeframes: int, row: FloatArray) -> None:
    """Put open, close and price_change; null only if the one or two minutes they need are missing."""
    minutes, rows = rings.minutes, rings.minutes.shape[1]
    at = minute % rows
    for timeframe in range(TIMEFRAME_COUNT):
        if not timeframes >> timeframe & 1:
            continue
        base, length = timeframe * _FIELD_COUNT, LENGTHS[timeframe]
        row[base + _CLOSE] = now.close
        row[base + _OPEN] = now.open if length == 1 else minutes[i, earlier(at, length - 1, rows)].open
        before = minutes[i, earlier(at, length, rows)].close
        row[base + _CHANGE] = (now.close / before - 1.0) * 100.0


@inlined
def put_windows(
    rings: Rings, i: int, minute: int, now: Now, head: Head, needs: int, timeframes: int, row: FloatArray
) -> None:
    """Put every field made of the sums and ranges of the windows; all but the coverage are null unless the window is
    whole."""
    symbol: Symbol = rings.symbols[i]
    short = NO_SHORT
    if timeframes & _SHORT:
        short = short_windows(rings, i, minute, now)
        _put_ten(short, row)
    for timeframe in range(TIMEFRAME_COUNT):
        if not timeframes >> timeframe & 1:
            continue
        base, length = timeframe * _FIELD_COUNT, LENGTHS[timeframe]
        window = window_at(symbol, timeframe, minute, now, short, head)
        row[base + _COVERAGE] = window.known / length
        if window.known == length:
            row[base + _RATIO] = _ratio(window.quote, quote_before(symbol, timeframe, minute, length, short))
            row[base + _QUOTE], row[base + _VOLUME] = window.quote, window.volume
            row[base + _TRADES] = window.trades
            vwap = math.nan
            if needs & _VOLUMES and window.volume != 0.0:
                vwap = window.quote / window.volume
            row[base + _VWAP] = vwap
            if needs & _RANGES:
                _put_range(window.high, window.low, now.close, vwap, row, base)
        else:
            for place in range(_FIELD_COUNT):
                if _NULL_UNLESS_WHOLE[place]:
                    row[base + place] = math.nan


_NULL_UNLESS_WHOLE: Final = tuple(
    place in (_HIGH, _LOW, _VOLUME, _QUOTE, _TRADES, _VWAP, _RATIO, _VCP) or name.startswith("fib_")
    for place, name in enumerate(FIELDS)
)


@inlined
def _ratio(quote: float, before: float) -> float:
    return math.nan if before == 0.0 else quote / before


@inlined
def _put_range(high: float, low: float, close: float, vwap: float, row: FloatArray, base: int) -> None:
    """Put the fields made of the range of a whole window."""
    row[base + _HIGH], row[base + _LOW] = high, low
    spread = high - low
    row[base + _VCP] = 0.0 if spread == 0.0 else ((close - low) - (high - close)) / spread * (close / vwap)
    pivot = (high + low + close) / 3.0
    row[base + _PIVOT] = pivot
    for ratio, resistance, support in _LEVELS:
        step = spread * ratio
        row[base + resistance], row[base + support] = pivot + step, pivot - step


@inlined
def _put_ten(short: Short, row: FloatArray) -> None:
    """Put highest and lowest of the last ten minutes, null unless all are known."""
    whole = short.before.known + short.five.known == 10.0
    row[_HIGH_10M] = max(short.before.high, short.five.high) if whole else math.nan
    row[_LOW_10M] = min(short.before.low, short.five.low) if whole else math.nan
