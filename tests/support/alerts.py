"""Test alerts in the form that the alert engine publishes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import orjson

from app.database.connection import open_pool
from app.rules.alert import Alert
from app.settings import Settings
from app.sinks.copy import write_alerts
from app.times import rfc3339
from app.wire.kafka import kafka_producer
from app.wire.topics import Topics

FIRST_MINUTE_MS = 1_709_000_040_000
RULES = ("futures_pioneer_bull", "futures_big_bear_60", "futures_top_hunter")
SEVERITY = {
    "futures_pioneer_bull": "critical",
    "futures_big_bear_60": "critical",
    "futures_top_hunter": "medium",
}


def make_alert(
    number: int, symbol: str = "BTCUSDT", rule_type: str | None = None, text: str = ""
) -> dict[str, Any]:
    """Return the alert with this number. Each number has its own minute and id, the same on every call."""
    rule_type = rule_type or RULES[number % len(RULES)]
    minute_ms = FIRST_MINUTE_MS + number * 60_000
    return {
        "id": str(uuid5(NAMESPACE_URL, f"{symbol}/{rule_type}/{minute_ms}")),
        "symbol": symbol,
        "rule_type": rule_type,
        "rule_version": 1,
        "severity": SEVERITY[rule_type],
        "description": text or f"alert number {number}",
        "timestamp": rfc3339(minute_ms),
        "price": 100.5 + number,
        "metadata": {"price_change_5m": 1.25, "price_change_1h": -0.5, "rsi": None},
        "timings": {"exchange_ts_ms": minute_ms, "ingest_ts_ms": minute_ms, "publish_ts_ms": minute_ms},
        "backfilled": False,
    }


async def publish(settings: Settings, values: Iterable[dict[str, Any] | bytes]) -> list[int]:
    """Send records to the topic of alerts; return their offsets."""
    async with kafka_producer(settings.kafka()) as producer:
        sent = [
            await producer.send(
                Topics.of(settings.names()).alerts,
                value if isinstance(value, bytes) else orjson.dumps(value),
                partition=0,
            )
            for value in values
        ]
        return [(await one).offset for one in sent]


async def store(settings: Settings, seqs: Sequence[int], alerts: Iterable[dict[str, Any]]) -> None:
    """Store alerts in the database as the sink does."""
    stored = [Alert.from_dict(alert, seq) for seq, alert in zip(seqs, alerts, strict=True)]
    async with await open_pool(settings.postgres()) as pool, pool.connection() as connection:
        await write_alerts(connection, stored)
