"""Alerts as JSON values, with an id that is the same whenever the same alert is found."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite
from typing import Any, Final
from uuid import UUID, uuid5

from app.candles.batch import MINUTE_MS
from app.market.metrics import MetricsBatch
from app.rules.cooldown import Fire

ALERT_NAMESPACE: Final = UUID("6f1d3c1e-7a55-5d0c-9b3e-2f8f4c9d7a10")
"""Fixed for ever: ids of the same alert must agree across versions of the screener."""

INDICATOR_TIMEFRAME: Final = "5m"
"""The timeframe of `vcp` and `rsi` in the metadata."""

METADATA_COLUMNS: Final[dict[str, str]] = {
    "vcp": f"vcp_{INDICATOR_TIMEFRAME}",
    "rsi": f"rsi_14_{INDICATOR_TIMEFRAME}",
    **{f"price_change_{n}": f"price_change_{n}" for n in ("5m", "15m", "1h", "8h", "1d")},
    **{f"volume_{n}": f"quote_volume_{n}" for n in ("5m", "15m", "1h", "8h", "1d")},
    **{f"volume_ratio_{n}": f"volume_ratio_{n}" for n in ("5m", "15m", "1h", "8h")},
}
"""Key in an alert's metadata -> metric column."""


def alert_id(rule_type: str, version: int, symbol: str, open_time_ms: int) -> str:
    """UUIDv5 of `rule_type|version|symbol|open_time_ms`."""
    return str(uuid5(ALERT_NAMESPACE, f"{rule_type}|{version}|{symbol}|{open_time_ms}"))


def rfc3339(time_ms: int) -> str:
    """UTC with milliseconds, such as 2021-04-17T00:01:00.000Z."""
    seconds, milliseconds = divmod(time_ms, 1000)
    # isoformat costs a quarter of strftime
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{milliseconds:03d}Z"


def build_alert(fire: Fire, batch: MetricsBatch, evaluate_ts_ms: int) -> dict[str, Any]:
    """The alert's JSON object; null metrics are None. `batch` is the one that `fire.row` points into.

    timestamp: the end of the minute in close mode, the event time in live mode. `seq` is the record's offset
    in the alert topic, so whoever reads it there adds it; `timings.publish_ts_ms` is added on publishing.
    """
    rule, row = fire.rule, fire.row
    value = _Row(batch, row)
    time_ms = fire.open_time_ms + MINUTE_MS if fire.mode == "close" else fire.event_ts_ms
    return {
        "id": alert_id(rule.rule_type, rule.version, fire.symbol, fire.open_time_ms),
        "symbol": fire.symbol,
        "rule_type": rule.rule_type,
        "rule_version": rule.version,
        "severity": rule.severity,
        "description": rule.description,
        "timestamp": rfc3339(time_ms),
        "price": value.of("close_1m"),
        "metadata": {key: value.of(column) for key, column in METADATA_COLUMNS.items()},
        "timings": {
            "exchange_ts_ms": int(batch.event_ts_ms[row]),
            "ingest_ts_ms": int(batch.ingest_ts_ms[row]),
            "evaluate_ts_ms": evaluate_ts_ms,
        },
    }


class _Row:
    def __init__(self, batch: MetricsBatch, row: int) -> None:
        self._position = _positions(batch.columns)
        self._values: list[float] = batch.values[row].tolist()

    def of(self, column: str) -> float | None:
        """None for null and for a column that the batch does not have."""
        at = self._position.get(column)
        if at is None or not isfinite(self._values[at]):
            return None
        return self._values[at]


@lru_cache(maxsize=8)
def _positions(columns: tuple[str, ...]) -> dict[str, int]:
    """Of each column: hundreds of alerts may come from one batch."""
    return {name: at for at, name in enumerate(columns)}
