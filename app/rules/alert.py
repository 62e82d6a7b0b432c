"""Alerts as JSON values, with an id that is the same whenever the same alert is found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha1
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, BoolArray
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
    """UUIDv5 (RFC 9562, 5.5) of `rule_type|version|symbol|open_time_ms`."""
    name = f"{rule_type}|{version}|{symbol}|{open_time_ms}"
    # by hand, since uuid.uuid5 takes four times as long and the alerts of a market's close come by the hundred
    digest = bytearray(sha1(ALERT_NAMESPACE.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    # isoformat costs a quarter of strftime
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def rfc3339(time_ms: int) -> str:
    """UTC with milliseconds, such as 2021-04-17T00:01:00.000Z."""
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


def build_alerts(fires: Sequence[Fire], batch: MetricsBatch, evaluate_ts_ms: int) -> list[dict[str, Any]]:
    """The alerts' JSON objects; null metrics are None. `batch` is the one that `fire.row` points into.

    timestamp: the end of the minute in close mode, the event time in live mode. `seq` is the record's offset
    in the alert topic, so whoever reads it there adds it; `timings.publish_ts_ms` is added on publishing.
    """
    rows = [fire.row for fire in fires]
    events_ms, ingests_ms = batch.event_ts_ms[rows].tolist(), batch.ingest_ts_ms[rows].tolist()
    facts = zip(fires, _values(rows, batch), events_ms, ingests_ms, strict=True)
    return [
        {
            "id": alert_id(fire.rule.rule_type, fire.rule.version, fire.symbol, fire.open_time_ms),
            "symbol": fire.symbol,
            "rule_type": fire.rule.rule_type,
            "rule_version": fire.rule.version,
            "severity": fire.rule.severity,
            "description": fire.rule.description,
            "timestamp": rfc3339(fire.open_time_ms + MINUTE_MS if fire.mode == "close" else fire.event_ts_ms),
            "price": price,
            "metadata": dict(zip(METADATA_COLUMNS, metadata, strict=True)),
            "timings": {
                "exchange_ts_ms": event_ms,
                "ingest_ts_ms": ingest_ms,
                "evaluate_ts_ms": evaluate_ts_ms,
            },
        }
        for fire, (price, *metadata), event_ms, ingest_ms in facts
    ]


def build_alert(fire: Fire, batch: MetricsBatch, evaluate_ts_ms: int) -> dict[str, Any]:
    """`build_alerts` of one."""
    return build_alerts([fire], batch, evaluate_ts_ms)[0]


def _values(rows: list[int], batch: MetricsBatch) -> list[list[float | None]]:
    """By row: the price, then the metadata; None for null and for a column that the batch does not have."""
    places, held = _columns(batch.columns)
    found = np.where(held, batch.values[np.array(rows)[:, np.newaxis], places], np.nan)
    values = found.astype(object)
    values[~np.isfinite(found)] = None
    listed: list[list[float | None]] = values.tolist()
    return listed


@lru_cache(maxsize=8)
def _columns(columns: tuple[str, ...]) -> tuple[NDArray[np.intp], BoolArray]:
    """Where the values of an alert are among a batch's columns, and which of them are there at all."""
    position = {name: at for at, name in enumerate(columns)}
    wanted = ("close_1m", *METADATA_COLUMNS.values())
    places = np.array([position.get(name, 0) for name in wanted], dtype=np.intp)
    return places, np.array([name in position for name in wanted])
