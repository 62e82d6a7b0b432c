"""Live mode: rules are evaluated on every update of a forming candle, cooldowns count event time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from app.candles.batch import MINUTE_MS
from app.local.servers.embedded import EmbeddedStack
from tests.support.database import MIDNIGHT_MS, moment
from tests.support.live_pipeline import (
    QUIET_MINUTES,
    LivePipeline,
    Update,
    closed,
    forming,
    live_pipeline,
    updates,
)
from tests.support.replays import replay_settings, stored
from tests.support.servers import settings_for

RULE = "futures_pioneer_bull"
"""c5m > 1, c15m > 1, 3 * c5m > c15m, 2 * v5m > v15m; cooldown 300 s."""
COOLDOWN_MS = 300_000


@dataclass(frozen=True)
class Market:
    """The pipeline of all tests, and a symbol of one test's own."""

    pipeline: LivePipeline
    symbol: str

    async def send(self, *rows: Update) -> None:
        await self.pipeline.send(updates(self.symbol, *rows))

    async def alerts(self) -> list[dict[str, Any]]:
        """The rule's alerts, in order of publication."""
        return [
            alert
            for alert in await self.pipeline.alerts()
            if (alert["rule_type"], alert["symbol"]) == (RULE, self.symbol)
        ]

    async def fired(self) -> list[int]:
        """Event times of the rule's alerts, ms after MIDNIGHT_MS."""
        return [
            round(datetime.fromisoformat(alert["timestamp"]).timestamp() * 1000) - MIDNIGHT_MS
            for alert in await self.alerts()
        ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pipeline(
    stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LivePipeline]:
    settings = replay_settings(settings_for(stack.urls), alert_mode="live")
    async with live_pipeline(settings, tmp_path_factory.mktemp("live")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def market(pipeline: LivePipeline, request: pytest.FixtureRequest) -> Market:
    """With a quiet past: price 100, quote volume 100 a minute."""
    market = Market(pipeline, f"币安人生{sum(request.node.name.encode())}USDT")
    await market.send(*(closed(minute, 100.0, 100.0) for minute in range(QUIET_MINUTES)))
    assert await market.fired() == []
    return market


@pytest.mark.asyncio(loop_scope="module")
async def test_an_alert_fires_while_its_candle_forms_and_once_only(market: Market) -> None:
    minute = QUIET_MINUTES
    start_ms = minute * MINUTE_MS

    await market.send(forming(minute, 10_000, 100.5, 500.0))
    assert await market.fired() == []

    await market.send(forming(minute, 20_000, 102.0, 1000.0))
    assert await market.fired() == [start_ms + 20_000]

    await market.send(forming(minute, 30_000, 103.0, 1200.0))
    await market.send(closed(minute, 102.0, 1500.0))
    assert await market.fired() == [start_ms + 20_000]

    in_database = [
        key for key in (await stored(market.pipeline.settings)).alert_keys if key[:2] == (RULE, market.symbol)
    ]
    assert in_database == [(RULE, market.symbol, MIDNIGHT_MS + start_ms + 20_000 - MINUTE_MS)]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_cooldown_ends_with_event_time_not_with_the_clock(market: Market) -> None:
    first = QUIET_MINUTES
    fired_ms = first * MINUTE_MS + 20_000
    await market.send(forming(first, 20_000, 102.0, 1000.0))
    quiet_again = [closed(minute, 102.0, 100.0) for minute in range(first + 1, first + 5)]
    await market.send(closed(first, 102.0, 1500.0), *quiet_again)
    again = first + 5
    just_before_ms = fired_ms + COOLDOWN_MS - 1 - again * MINUTE_MS

    await market.send(forming(again, just_before_ms, 105.0, 3000.0))
    assert await market.fired() == [fired_ms]

    await market.send(forming(again, just_before_ms + 1, 105.0, 3000.0))
    assert await market.fired() == [fired_ms, fired_ms + COOLDOWN_MS]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_alert_says_when_and_at_which_price_it_fired(market: Market) -> None:
    await market.send(forming(QUIET_MINUTES, 20_000, 102.0, 1000.0))
    [alert] = await market.alerts()
    event_ms = MIDNIGHT_MS + QUIET_MINUTES * MINUTE_MS + 20_000
    assert datetime.fromisoformat(alert["timestamp"]).astimezone(UTC) == moment(event_ms)
    assert alert["price"] == 102.0
    assert alert["timings"]["exchange_ts_ms"] == event_ms
    assert alert["metadata"]["price_change_5m"] == pytest.approx(2.0)
    assert alert["metadata"]["price_change_1h"] is None
