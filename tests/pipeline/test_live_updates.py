"""Live mode: rules are evaluated on every update of a forming candle, cooldowns count event time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from app.candles.batch import MINUTE_MS, CandleBatch
from app.settings import Settings
from tests.support.database import MIDNIGHT_MS, moment
from tests.support.live_pipeline import LivePipeline, live_pipeline
from tests.support.replays import replay_settings, stored

SYMBOL = "LIVEUSDT"
RULE = "futures_pioneer_bull"
"""c5m > 1, c15m > 1, 3 * c5m > c15m, 2 * v5m > v15m; cooldown 300 s."""
COOLDOWN_MS = 300_000
QUIET_MINUTES = 16

Update = tuple[int, int, float, float, bool]
"""Minute since MIDNIGHT_MS, event time in ms after that minute's open, price, quote volume, closed."""


def updates(*rows: Update) -> CandleBatch:
    minute, after_ms, price, quote_volume, closed = (np.array(column) for column in zip(*rows, strict=True))
    open_time_ms = MIDNIGHT_MS + minute * MINUTE_MS
    nothing = np.full(len(rows), np.nan)
    return CandleBatch(
        symbols=(SYMBOL,),
        symbol_index=np.zeros(len(rows), dtype=np.int32),
        open_time_ms=open_time_ms,
        open=price, high=price, low=price, close=price,
        volume=quote_volume / price, quote_volume=quote_volume,
        trades=np.ones(len(rows), dtype=np.int64),
        taker_buy_volume=nothing, taker_buy_quote_volume=nothing,
        quote_estimated=np.zeros(len(rows), dtype=np.bool_),
        closed=closed,
        event_ts_ms=open_time_ms + after_ms,
        ingest_ts_ms=np.zeros(len(rows), dtype=np.int64),
    )  # fmt: skip


def closed(minute: int, price: float, quote_volume: float) -> Update:
    return (minute, MINUTE_MS, price, quote_volume, True)


def forming(minute: int, after_ms: int, price: float, quote_volume: float) -> Update:
    return (minute, after_ms, price, quote_volume, False)


@pytest.fixture
async def pipeline(settings: Settings, tmp_path: Path) -> AsyncIterator[LivePipeline]:
    """With a quiet past: price 100, quote volume 100 a minute."""
    async with live_pipeline(replay_settings(settings, alert_mode="live"), tmp_path) as running:
        await running.send(updates(*(closed(minute, 100.0, 100.0) for minute in range(QUIET_MINUTES))))
        assert await fired(running) == []
        yield running


async def fired(pipeline: LivePipeline) -> list[int]:
    """Event times (ms after MIDNIGHT_MS) of the rule's alerts, in order of publication."""
    return [
        round(datetime.fromisoformat(alert["timestamp"]).timestamp() * 1000) - MIDNIGHT_MS
        for alert in await pipeline.alerts()
        if (alert["rule_type"], alert["symbol"]) == (RULE, SYMBOL)
    ]


async def test_an_alert_fires_while_its_candle_forms_and_once_only(pipeline: LivePipeline) -> None:
    minute = QUIET_MINUTES
    start_ms = minute * MINUTE_MS

    await pipeline.send(updates(forming(minute, 10_000, 100.5, 500.0)))
    assert await fired(pipeline) == []

    await pipeline.send(updates(forming(minute, 20_000, 102.0, 1000.0)))
    assert await fired(pipeline) == [start_ms + 20_000]

    await pipeline.send(updates(forming(minute, 30_000, 103.0, 1200.0)))
    await pipeline.send(updates(closed(minute, 102.0, 1500.0)))
    assert await fired(pipeline) == [start_ms + 20_000]

    in_database = [key for key in (await stored(pipeline.settings)).alert_keys if key[0] == RULE]
    assert in_database == [(RULE, SYMBOL, MIDNIGHT_MS + start_ms + 20_000 - MINUTE_MS)]


async def test_the_cooldown_ends_with_event_time_not_with_the_clock(pipeline: LivePipeline) -> None:
    first = QUIET_MINUTES
    fired_ms = first * MINUTE_MS + 20_000
    await pipeline.send(updates(forming(first, 20_000, 102.0, 1000.0)))
    quiet_again = [closed(minute, 102.0, 100.0) for minute in range(first + 1, first + 5)]
    await pipeline.send(updates(closed(first, 102.0, 1500.0), *quiet_again))
    again = first + 5
    just_before_ms = fired_ms + COOLDOWN_MS - 1 - again * MINUTE_MS

    await pipeline.send(updates(forming(again, just_before_ms, 105.0, 3000.0)))
    assert await fired(pipeline) == [fired_ms]

    await pipeline.send(updates(forming(again, just_before_ms + 1, 105.0, 3000.0)))
    assert await fired(pipeline) == [fired_ms, fired_ms + COOLDOWN_MS]


async def test_the_alert_says_when_and_at_which_price_it_fired(pipeline: LivePipeline) -> None:
    await pipeline.send(updates(forming(QUIET_MINUTES, 20_000, 102.0, 1000.0)))
    [alert] = [alert for alert in await pipeline.alerts() if alert["rule_type"] == RULE]
    event_ms = MIDNIGHT_MS + QUIET_MINUTES * MINUTE_MS + 20_000
    assert datetime.fromisoformat(alert["timestamp"]).astimezone(UTC) == moment(event_ms)
    assert alert["price"] == 102.0
    assert alert["timings"]["exchange_ts_ms"] == event_ms
    assert alert["metadata"]["price_change_5m"] == pytest.approx(2.0)
    assert alert["metadata"]["price_change_1h"] is None
