"""Alerts, metrics and tickers in the earlier system's form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from app.rules.alert import Alert
from app.rules.alert_builder import INDICATOR_TIMEFRAME
from app.sidecar.live.alert_log import LoggedAlert
from app.sidecar.live.frames import text_frame
from app.times import rfc3339
from app.wire.tickers import Ticker

TIMEFRAMES: Final = ("1m", "5m", "15m", "1h", "8h", "1d")
CHANGED: Final = TIMEFRAMES[1:]
"""Timeframes whose price change the metrics contain."""
COMPARED: Final = ("5m", "15m", "1h", "8h")
"""Timeframes whose volume ratio the metrics contain."""
PIVOTS: Final = ("r3", "r2", "r1", "pivot", "s1", "s2", "s3")
_CANDLE: Final = {"open": "open", "high": "high", "low": "low", "close": "close", "volume": "quote_volume"}
"""JSON name -> metric of the window; `volume` is in the quote asset there."""
_CHANGES: Final = ("price_change", "volume_ratio")
_INDICATORS: Final = (
    "vcp", "rsi_14", "macd", "macd_signal", "bb_upper", "bb_middle", "bb_lower"
)  # fmt: skip
_PUBLISHED_PIVOTS: Final = {
    "pivot": "pivot",
    "resistance1": "r3",
    "resistance0618": "r2",
    "resistance0382": "r1",
    "support0382": "s1",
    "support0618": "s2",
    "support1": "s3",
}

Value = Callable[[str], float | None]
"""Metric column -> its value, None for null."""


def alert_document(alert: Mapping[str, Any]) -> dict[str, object]:
    """Convert the JSON object of an alert that clients of the sidecar see; keep only plain values of its metadata."""
    metadata = alert["metadata"].items()
    return {
        "id": alert["id"],
        "time": alert["timestamp"],
        "timestamp": alert["timestamp"],
        "symbol": alert["symbol"],
        "rule_type": alert["rule_type"],
        "description": alert["description"],
        "price": alert["price"],
        "metadata": {name: value for name, value in metadata if not isinstance(value, dict | list)},
    }


def alert_json(alert: Alert) -> bytes:
    return orjson.dumps(alert_document(alert.as_dict()))


def alert_frame(alert: LoggedAlert) -> bytes:
    """Return an alert as /ws/alerts sends it."""
    return text_frame(orjson.dumps(alert_document(orjson.loads(alert.payload))))


def timeframe_documents(value: Value, *, changes: bool) -> dict[str, dict[str, object]]:
    """Return timeframe -> its metrics; a timeframe whose window is not whole is left out, and so is a null metric.

    changes: with price change and volume ratio.
    """
    found: dict[str, dict[str, object]] = {}
    for timeframe in TIMEFRAMES:
        candle: dict[str, object] = {name: value(f"{metric}_{timeframe}") for name, metric in _CANDLE.items()}
        if None not in candle.values():
            names = (*_CHANGES, *_INDICATORS) if changes else _INDICATORS
            known = {name: value(f"{name}_{timeframe}") for name in names}
            pivots = {name: value(f"fib_{name}_{timeframe}") for name in PIVOTS}
            found[timeframe] = candle | {name: one for name, one in known.items() if one is not None}
            if pivots["pivot"] is not None:
                found[timeframe]["fibonacci"] = pivots
    return found


def published_metrics(symbol: str, time_ms: int, value: Value) -> bytes:
    """Return the JSON of a closed minute's metrics as `metrics.calculated` carries them; null where a window is not
    whole. time_ms: the end of the minute, UTC."""
    document: dict[str, object] = {
        "symbol": symbol,
        "timestamp": rfc3339(time_ms),
        "last_price": value("close_1m"),
    }
    for timeframe in TIMEFRAMES:
        document[f"candle_{timeframe}"] = {
            name: value(f"{metric}_{timeframe}") for name, metric in _CANDLE.items()
        }
    document |= {f"price_change_{name}": value(f"price_change_{name}") for name in CHANGED}
    document |= {f"volume_ratio_{name}": value(f"volume_ratio_{name}") for name in COMPARED}
    document["vcp"] = value(f"vcp_{INDICATOR_TIMEFRAME}")
    document["fibonacci"] = {name: value(f"fib_{pivot}_1d") for name, pivot in _PUBLISHED_PIVOTS.items()}
    document["rsi"] = value(f"rsi_14_{INDICATOR_TIMEFRAME}")
    document["macd"] = {
        "macd": value(f"macd_{INDICATOR_TIMEFRAME}"),
        "signal": value(f"macd_signal_{INDICATOR_TIMEFRAME}"),
        "histogram": value(f"macd_hist_{INDICATOR_TIMEFRAME}"),
    }
    return orjson.dumps(document)


def ticker_json(ticker: Ticker) -> bytes | None:
    """Return a 24 h ticker as the exchange's REST interface gives it; None if the exchange did not tell all of it."""
    day = ticker.day
    if day is None:
        return None
    return orjson.dumps(
        {
            "symbol": ticker.symbol,
            "priceChange": day.price_change,
            "priceChangePercent": day.price_change_pct,
            "weightedAvgPrice": day.weighted_average,
            "lastPrice": day.last_price,
            "lastQty": day.last_quantity,
            "openPrice": day.open,
            "highPrice": day.high,
            "lowPrice": day.low,
            "volume": day.volume,
            "quoteVolume": day.quote_volume,
            "openTime": day.open_time_ms,
            "closeTime": day.close_time_ms,
            "count": day.trades,
        }
    )
