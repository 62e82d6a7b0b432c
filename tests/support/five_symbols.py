"""Five symbols with a few metrics each, of which one has been silent for an hour."""

from __future__ import annotations

from typing import Any

from tests.support.eventually import eventually
from tests.support.sidecar import Client

START_MS = 1_709_164_800_000
"""2024-02-29 00:00 UTC, a Thursday, the last day of its month."""
SYMBOLS: list[tuple[str, int, dict[str, Any]]] = [
    ("BTCUSDT", START_MS, {"close_1m": 60_000.0, "price_change_1h": 3.0, "quote_volume_1h": 9e8}),
    ("ETHUSDT", START_MS, {"close_1m": 3_000.0, "price_change_1h": 5.0, "quote_volume_1h": 4e8}),
    ("ADAUSDT", START_MS, {"close_1m": 0.5, "price_change_1h": -1.0}),
    ("XRPUSDT", START_MS, {"close_1m": 0.6}),
    ("OLDUSDT", START_MS - 3_600_000, {"close_1m": 1.0, "price_change_1h": 50.0}),
]


async def all_known(client: Client) -> None:
    await eventually(lambda: len(client.sidecar.parts.latest) == len(SYMBOLS))
