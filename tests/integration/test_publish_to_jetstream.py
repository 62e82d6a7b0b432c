"""The candle publisher and the simulated feed against a real NATS server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import nats
import numpy as np
import orjson
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

import app.ingress.publish
from app.candles.batch import COLUMNS, MINUTE_MS, CandleBatch
from app.clock import ManualClock
from app.errors import ServerError, ServerUnreachable
from app.ingress.publish import CandlePublisher, candle_publisher
from app.ingress.pull import stream_name
from app.ingress.simulated import SimulatedMarket
from app.ingress.simulated_feed import HISTORY_MINUTES, run_simulated_feed
from app.ingress.wire import parse
from app.settings import Settings
from app.stack.embedded import EmbeddedStack
from app.stack.ports import free_port
from tests.support.eventually import eventually
from tests.support.servers import settings_for

START_MS = 1_700_000_040_000


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    connected = await nats.connect(settings.server_urls().nats)
    yield connected
    await connected.jetstream().delete_stream(stream_name(settings))
    await connected.close()


def candles(minutes: int, symbols: int = 10) -> CandleBatch:
    return SimulatedMarket(symbols, 1, START_MS).history(minutes)


async def stored(jetstream: JetStreamContext, settings: Settings) -> int:
    return (await jetstream.stream_info(stream_name(settings))).state.messages


async def all_messages(client: Client, settings: Settings) -> list[tuple[str, bytes]]:
    """(subject, data) of the whole stream, in its order."""
    jetstream = client.jetstream()
    subscription = await jetstream.subscribe(
        settings.name("candles.>"), stream=stream_name(settings), ordered_consumer=True
    )
    messages = [await subscription.next_msg(timeout=10) for _ in range(await stored(jetstream, settings))]
    await subscription.unsubscribe()
    return [(message.subject, message.data) for message in messages]


@pytest.mark.parametrize("whole_writes", [True, False])
async def test_every_candle_is_stored_once_in_order_on_the_subject_of_its_symbol(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch, whole_writes: bool
):
    monkeypatch.setattr(app.ingress.publish, "_WHOLE_WRITES", whole_writes)
    batch = candles(minutes=120)
    async with candle_publisher(settings, "test") as publisher:
        await publisher.publish(batch)
        await publisher.flush()
        assert publisher.unacknowledged == 0
        assert publisher.counts.acknowledged == len(batch)
    messages = await all_messages(client, settings)
    prefix = settings.name("candles.1m.")
    assert [subject for subject, _ in messages] == [prefix + name for name in batch.symbols] * 120
    parsed = parse(
        [data for _, data in messages], ingest_ts_ms=START_MS * 2, max_bytes=4096, exchange="binance"
    )
    assert parsed.batch is not None
    for name in set(COLUMNS) - {"ingest_ts_ms"}:
        np.testing.assert_array_equal(getattr(parsed.batch, name), getattr(batch, name), err_msg=name)


async def test_forming_candles_go_to_the_live_subject(settings: Settings, client: Client):
    async with candle_publisher(settings, "test") as publisher:
        await publisher.publish(SimulatedMarket(2, 1, START_MS).step(START_MS + 61_000))
        await publisher.flush()
    subjects = [subject for subject, _ in await all_messages(client, settings)]
    symbols = ("BTCUSDT", "ETHUSDT")
    assert subjects == [
        *(settings.name(f"candles.1m.{symbol}") for symbol in symbols),
        *(settings.name(f"candles.live.1m.{symbol}") for symbol in symbols),
    ]


@pytest.mark.parametrize("whole_writes", [True, False])
@pytest.mark.parametrize("candles_per_message", [1, 100])
async def test_forming_candles_are_kept_for_15_minutes_and_closed_ones_as_long_as_the_stream_keeps_any(
    settings: Settings,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    candles_per_message: int,
    whole_writes: bool,
):
    monkeypatch.setattr(app.ingress.publish, "_WHOLE_WRITES", whole_writes)
    async with candle_publisher(settings, "test", candles_per_message) as publisher:
        await publisher.publish(SimulatedMarket(2, 1, START_MS).step(START_MS + 61_000))
        await publisher.flush()
    jetstream = client.jetstream()
    for sequence in range(1, await stored(jetstream, settings) + 1):
        kept = await jetstream.get_msg(stream_name(settings), sequence)
        forming = ".live." in str(kept.subject)
        assert (kept.headers or {}).get("Nats-TTL") == ("15m" if forming else None)


async def test_forming_candles_are_gone_when_their_time_is_over_and_closed_ones_stay(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app.ingress.publish, "_FORMING_HEADER", "Nats-TTL: 1s\r\n")
    jetstream = client.jetstream()
    async with candle_publisher(settings, "test") as publisher:
        await publisher.publish(SimulatedMarket(5, 1, START_MS).step(START_MS + 61_000))
        await publisher.flush()
        assert publisher.counts.acknowledged == 10

    async def half_is_gone() -> bool:
        return await stored(jetstream, settings) == 5

    await eventually(half_is_gone)
    subjects = {subject for subject, _ in await all_messages(client, settings)}
    assert all(subject.startswith(settings.name("candles.1m.")) for subject in subjects)


async def test_arrays_of_closed_and_of_forming_candles_go_to_subjects_of_their_own(
    settings: Settings, client: Client
):
    batch = SimulatedMarket(250, 1, START_MS).step(START_MS + 61_000)
    async with candle_publisher(settings, "test", candles_per_message=100) as publisher:
        await publisher.publish(batch)
        await publisher.flush()
    messages = await all_messages(client, settings)
    closed, live = settings.name("candles.batch.1m"), settings.name("candles.live.batch.1m")
    assert [subject for subject, _ in messages] == [closed] * 3 + [live] * 3
    for part, wanted in ((messages[:3], batch.take(batch.closed)), (messages[3:], batch.take(~batch.closed))):
        rows = [row for _, data in part for row in orjson.loads(data)]
        assert [row["symbol"] for row in rows] == [wanted.symbol_of(row) for row in range(len(wanted))]
        assert [row["close"] for row in rows] == wanted.close.tolist()


async def test_no_number_of_closed_candles_pushes_out_older_ones(settings: Settings, client: Client):
    batch = candles(minutes=12_000, symbols=1)
    async with candle_publisher(settings, "test") as publisher:
        await publisher.publish(batch)
        await publisher.flush()
    state = (await client.jetstream().stream_info(stream_name(settings))).state
    assert (state.messages, state.first_seq) == (len(batch), 1)


async def test_a_stream_made_without_times_to_live_learns_them_and_keeps_its_limits(
    settings: Settings, client: Client
):
    jetstream = client.jetstream()
    subjects = [settings.name("candles.>")]
    await jetstream.add_stream(name=stream_name(settings), subjects=subjects, max_msgs=777, max_age=3600)
    async with candle_publisher(settings, "test") as publisher:
        await publisher.publish(SimulatedMarket(2, 1, START_MS).step(START_MS + 61_000))
        await publisher.flush()
    found = (await jetstream.stream_info(stream_name(settings))).config
    assert (found.subjects, found.max_msgs, found.max_age) == (subjects, 777, 3600)
    assert found.allow_msg_ttl


async def test_publishing_again_stores_nothing_twice_and_a_correction_is_new(
    settings: Settings, client: Client
):
    batch = candles(minutes=20)
    async with candle_publisher(settings, "test") as publisher:
        for version in (batch, batch, replace(batch, volume=batch.volume + 1)):
            await publisher.publish(version)
        await publisher.flush()
        assert publisher.counts.duplicates == len(batch)
    assert await stored(client.jetstream(), settings) == 2 * len(batch)


async def test_no_more_than_the_window_is_on_the_way_unacknowledged(settings: Settings, client: Client):
    publisher = CandlePublisher(client, settings, window=30)
    await publisher.open()
    seen = []
    publishing = asyncio.create_task(publisher.publish(candles(minutes=100)))
    while not publishing.done():
        seen.append(publisher.unacknowledged)
        await asyncio.sleep(0)
    await publishing
    await publisher.flush()
    await publisher.close()
    assert 0 < max(seen) <= 30
    assert await stored(client.jetstream(), settings) == 1000


async def test_candles_refused_for_now_are_sent_again_until_the_stream_takes_them(
    settings: Settings, client: Client
):
    batch = candles(minutes=5)
    jetstream = client.jetstream()
    async with candle_publisher(settings, "test") as publisher:
        config = (await jetstream.stream_info(stream_name(settings))).config
        await jetstream.update_stream(config, max_msgs=20, discard="new")
        await publisher.publish(batch)
        await eventually(lambda: publisher.counts.resent > 0)
        assert publisher.counts.acknowledged == 20
        await jetstream.update_stream(config, max_msgs=-1)
        await publisher.flush()
    assert await stored(jetstream, settings) == len(batch)


async def test_a_stream_that_stays_full_is_reported_in_the_end(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app.ingress.publish, "_MAX_REFUSALS", 2)
    jetstream = client.jetstream()
    async with candle_publisher(settings, "test") as publisher:
        config = (await jetstream.stream_info(stream_name(settings))).config
        await jetstream.update_stream(config, max_msgs=20, discard="new")
        await publisher.publish(candles(minutes=5))
        with pytest.raises(ServerUnreachable, match=r"does not take candles on .*maximum messages exceeded"):
            await publisher.flush()
        with pytest.raises(ServerUnreachable, match="see the disk"):
            await publisher.publish(candles(minutes=1))


async def test_a_candle_that_can_never_be_stored_is_reported_at_once(settings: Settings, client: Client):
    jetstream = client.jetstream()
    async with candle_publisher(settings, "test") as publisher:
        config = (await jetstream.stream_info(stream_name(settings))).config
        await jetstream.update_stream(config, max_msg_size=50)
        await publisher.publish(candles(minutes=1))
        with pytest.raises(ServerError, match=r"refuses a candle on .*message size exceeds maximum"):
            await publisher.flush()
        assert publisher.counts.resent == 0


async def test_a_server_that_goes_away_and_comes_back_loses_nothing(tmp_path: Path):
    port = free_port()
    batch = candles(minutes=1200)
    with EmbeddedStack.start(tmp_path, ["nats"], {"nats": port}) as first:
        settings = settings_for(first.urls, kafka_url="-", redis_url="-", postgres_url="-")
        connection = candle_publisher(settings, "test")
        publisher = await connection.__aenter__()
        await publisher.publish(batch.take(slice(3000)))
    publishing = asyncio.create_task(publisher.publish(batch.take(slice(3000, None))))
    await eventually(lambda: publisher.unacknowledged > 7000)
    with EmbeddedStack.start(tmp_path, ["nats"], {"nats": port}):
        await publishing
        await publisher.flush()
        client = await nats.connect(settings.server_urls().nats)
        assert await stored(client.jetstream(), settings) == len(batch) == 12_000
        await client.close()
        await connection.__aexit__(None, None, None)


async def test_the_simulated_feed_tells_a_day_and_then_lives_by_the_clock(settings: Settings, client: Client):
    symbols = 3
    live = settings.model_copy(update={"simulated_symbols": symbols, "simulated_updates_per_s": 20.0})
    clock = ManualClock(START_MS + 30_000)
    stop = asyncio.Event()
    jetstream = client.jetstream()
    feed = asyncio.create_task(run_simulated_feed(live, clock, stop))

    async def messages_on(subjects: str) -> int:
        info = await jetstream.stream_info(stream_name(settings), subjects_filter=settings.name(subjects))
        return sum((info.state.subjects or {}).values())

    async def stream_exists() -> bool:
        return any(info.config.name == stream_name(settings) for info in await jetstream.streams_info())

    async def published(closed: int, forming: int) -> bool:
        counts = await messages_on("candles.1m.*"), await messages_on("candles.live.1m.*")
        return counts == (closed, forming)

    await eventually(lambda: feed.done() or stream_exists())
    await eventually(lambda: published(symbols * HISTORY_MINUTES, symbols))
    clock.advance_ms(1_000)
    await eventually(lambda: published(symbols * HISTORY_MINUTES, 2 * symbols))
    clock.advance_ms(MINUTE_MS)
    await eventually(lambda: published(symbols * (HISTORY_MINUTES + 1), 3 * symbols))
    stop.set()
    await feed
