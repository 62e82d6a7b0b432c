"""A minute that the exchange never gives, from the simulated exchange through the feed to the indicators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from app.candles.batch import CandleBatch
from app.database.migrate import migrate
from app.feed.history.backfill import BackfillTimes
from app.market.matrix import MarketMatrix
from app.settings import Settings
from app.telemetry import feed_metrics
from app.wire.frames import decode_bars
from app.wire.topics import Topics
from tests.support.eventually import eventually
from tests.support.feeds import RunningFeed, running_feed
from tests.support.kline_frames import MINUTE_MS
from tests.support.market_batches import batch_of
from tests.support.market_oracle import Minute
from tests.support.metric_values import value_of
from tests.support.sim_exchange import NOON_MS, Client, sim_exchange
from tests.support.topic_reader import read_until
from tests.unit.test_market_talib import talib_fields

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
LENGTH_MS = 15 * MINUTE_MS


async def test_indicators_go_on_from_the_exchanges_own_bars_after_a_minute_it_never_had(settings: Settings):
    async with following(settings) as (client, live, running):
        lost_ms = (await client.fault(kind="gap", symbols=["BTCUSDT"], rest=False))["hit"]["first_minute"]
        lost_ms *= MINUTE_MS
        metrics = feed_metrics(running.registry)
        given_up = value_of(metrics.given_up_minutes)
        await client.next_minute()
        client.clock.advance_ms(10_000)
        await eventually(lambda: value_of(metrics.given_up_minutes) > given_up)
        await eventually(lambda: running.feed.facts()["broken_bars"] == 5)
        repaired = value_of(metrics.repaired_bars.labels(timeframe="15m"))
        await until_the_quarter_is_over(client)
        await eventually(lambda: value_of(metrics.repaired_bars.labels(timeframe="15m")) > repaired)
        assert running.feed.facts()["broken_bars"] == 4
        before, healing = await bars_sent(live, "15m", at_least=2)
        assert before.open_time_ms[-1] == NOON_MS - LENGTH_MS
        assert healing.open_time_ms[-1] == NOON_MS

        while client.clock.now_ms() < NOON_MS + 2 * LENGTH_MS + MINUTE_MS:
            await client.next_minute()
        last_ms = NOON_MS + 2 * LENGTH_MS - MINUTE_MS
        client.clock.advance_ms(10_000)
        await eventually(lambda: has_minute(running, last_ms))
        await assert_equal_to_ta_lib(client, running, before, healing, lost_ms, last_ms)


async def test_an_outage_of_all_symbols_is_made_good_for_each_of_them(settings: Settings):
    async with following(settings) as (client, _, running):
        await client.fault(kind="gap", symbols=list(SYMBOLS), rest=False)
        metrics = feed_metrics(running.registry)
        await client.next_minute()
        client.clock.advance_ms(10_000)
        # of each symbol the bars of 15m, 1h, 4h, 8h and 1d
        await eventually(lambda: running.feed.facts()["broken_bars"] == 5 * len(SYMBOLS))
        repaired = value_of(metrics.repaired_bars.labels(timeframe="15m"))
        await until_the_quarter_is_over(client)

        def all_are_repaired() -> bool:
            return value_of(metrics.repaired_bars.labels(timeframe="15m")) == repaired + len(SYMBOLS)

        await eventually(all_are_repaired)
        assert running.feed.facts()["broken_bars"] == 4 * len(SYMBOLS)


@asynccontextmanager
async def following(settings: Settings) -> AsyncIterator[tuple[Client, Settings, RunningFeed]]:
    """Yield a simulated exchange, seven minutes into a quarter of an hour, the settings of its feed, and the feed, once
    it is live and has sent its bars."""
    await asyncio.to_thread(migrate, settings.postgres())
    async with sim_exchange(now_ms=NOON_MS + 7 * MINUTE_MS, history_days=8) as client:
        live = settings.model_copy(
            update={
                "exchange_rest_url": client.url,
                "exchange_ws_url": client.url.replace("http", "ws", 1) + "/market/stream",
            }
        )
        async with running_feed(live, times=BackfillTimes(give_up_s=0.3)) as running:
            await eventually(lambda: running.feed.live == set(SYMBOLS))
            await bars_sent(live, "15m", at_least=1)
            yield client, live, running


async def until_the_quarter_is_over(client: Client) -> None:
    """Let time pass until the quarter of an hour is over, and a little longer."""
    while client.clock.now_ms() < NOON_MS + LENGTH_MS + 2 * MINUTE_MS:
        await client.next_minute()
    client.clock.advance_ms(10_000)


async def bars_sent(settings: Settings, timeframe: str, *, at_least: int) -> list[CandleBatch]:
    """Those of BTCUSDT, one batch a record, in their order."""

    def found_in(records: list) -> list[CandleBatch]:
        decoded = [decode_bars(record.value)[:2] for record in records]
        return [
            bars.take(bars.symbol_index == bars.symbols.index("BTCUSDT")).compact()
            for name, bars in decoded
            if name == timeframe and "BTCUSDT" in bars.symbols
        ]

    records = await read_until(
        settings,
        Topics.of(settings.names()).candles,
        lambda records: len(found_in(records)) >= at_least,
        partitions=settings.partitions,
    )
    return found_in(records)


async def has_minute(running: RunningFeed, open_time_ms: int) -> bool:
    return open_time_ms in await running.closed_minutes("BTCUSDT")


async def assert_equal_to_ta_lib(
    client: Client,
    running: RunningFeed,
    before: CandleBatch,
    healing: CandleBatch,
    lost_ms: int,
    last_ms: int,
) -> None:
    there = await running.closed_minutes("BTCUSDT")
    assert lost_ms not in there
    rows = [
        ("BTCUSDT", int(row[0]) // MINUTE_MS, Minute(*map(float, row[1:6]), float(row[7]), int(row[8])), True)
        for row in await client.klines("BTCUSDT", startTime=NOON_MS, endTime=last_ms, limit=100)
    ]
    assert [row[1] * MINUTE_MS for row in rows] == [ms for ms in there if NOON_MS <= ms <= last_ms]
    matrix = MarketMatrix()
    matrix.warm_up_bars("15m", before)
    middle = (NOON_MS + LENGTH_MS) // MINUTE_MS + 3
    matrix.update(batch_of([row for row in rows if row[1] < middle]))
    matrix.warm_up_bars("15m", healing)
    metrics = matrix.update(batch_of([row for row in rows if row[1] >= middle]))

    own = await client.klines("BTCUSDT", "15m", endTime=last_ms, limit=301)
    high, low, close = (np.array([float(bar[at]) for bar in own]) for at in (2, 3, 4))
    assert own[-2][0] == NOON_MS
    for field, values in talib_fields(high, low, close).items():
        found = metrics.values[-1, metrics.columns.index(f"{field}_15m")]
        assert found == pytest.approx(values[-1], rel=1e-9, abs=1e-9), field
    assert np.isnan(metrics.values[-1, metrics.columns.index("quote_volume_1h")])
