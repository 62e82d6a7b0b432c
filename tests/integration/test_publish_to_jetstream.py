"""The candle publisher against a real NATS server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import nats
import numpy as np
import orjson
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from structlog.testing import capture_logs

import app.wire.nats.commands
import app.wire.nats.publish
from app.candles.batch import COLUMNS, MINUTE_MS, CandleBatch
from app.errors import ServerError, ServerUnreachable
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import free_port
from app.settings import Settings
from app.wire.nats.candles import parse
from app.wire.nats.publish import CandlePublisher, candle_publisher
from app.wire.nats.stream import stream_name
from tests.support.candle_batches import Candle, batch_of
from tests.support.eventually import eventually
from tests.support.servers import settings_for

START_MS = 1_700_000_040_000


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    connected = await nats.connect(settings.server_urls().nats)
    yield connected
    with suppress(NotFoundError):  # a test that skips has made none
        await connected.jetstream().delete_stream(stream_name(settings.names()))
    await connected.close()


def candles(minutes: int, symbols: int = 10) -> CandleBatch:
    """Minute by minute, all symbols in each."""
    first = START_MS // MINUTE_MS
    names = [f"S{number}USDT" for number in range(symbols)]
    return batch_of(
        [
            Candle(symbol, first + minute, 10.0 + minute / 100 + number)
            for minute in range(minutes)
            for number, symbol in enumerate(names)
        ]
    )


def closing_and_forming(symbols: int) -> CandleBatch:
    """A closed minute of every symbol, then what forms after it."""
    batch = candles(2, symbols)
    return replace(batch, closed=batch.open_time_ms == START_MS)


def knows_times_to_live(client: Client) -> bool:
    return (client.connected_server_version.major, client.connected_server_version.minor) >= (2, 11)


async def stored(jetstream: JetStreamContext, settings: Settings) -> int:
    return (await jetstream.stream_info(stream_name(settings.names()))).state.messages


async def all_messages(client: Client, settings: Settings) -> list[tuple[str, bytes]]:
    """(subject, data) of the whole stream, in its order."""
    jetstream = client.jetstream()
    subscription = await jetstream.subscribe(
        settings.name("candles.>"), stream=stream_name(settings.names()), ordered_consumer=True
    )
    messages = [await subscription.next_msg(timeout=10) for _ in range(await stored(jetstream, settings))]
    await subscription.unsubscribe()
    return [(message.subject, message.data) for message in messages]


@pytest.mark.parametrize("whole_writes", [True, False])
async def test_every_candle_is_stored_once_in_order_on_the_subject_of_its_symbol(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch, whole_writes: bool
):
    monkeypatch.setattr(app.wire.nats.publish, "_WHOLE_WRITES", whole_writes)
    batch = candles(minutes=120)
    async with candle_publisher(settings.nats(), "test") as publisher:
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
    async with candle_publisher(settings.nats(), "test") as publisher:
        await publisher.publish(closing_and_forming(2))
        await publisher.flush()
    subjects = [subject for subject, _ in await all_messages(client, settings)]
    symbols = ("S0USDT", "S1USDT")
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
    monkeypatch.setattr(app.wire.nats.publish, "_WHOLE_WRITES", whole_writes)
    async with candle_publisher(settings.nats(), "test", candles_per_message) as publisher:
        await publisher.publish(closing_and_forming(2))
        await publisher.flush()
    jetstream = client.jetstream()
    for sequence in range(1, await stored(jetstream, settings) + 1):
        kept = await jetstream.get_msg(stream_name(settings.names()), sequence)
        forming = ".live." in str(kept.subject)
        assert (kept.headers or {}).get("Nats-TTL") == ("15m" if forming else None)


async def test_forming_candles_are_gone_when_their_time_is_over_and_closed_ones_stay(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
):
    if not knows_times_to_live(client):
        pytest.skip("NATS before 2.11 ignores times to live")
    monkeypatch.setattr(app.wire.nats.commands, "_FORMING_HEADER", "Nats-TTL: 1s\r\n")
    jetstream = client.jetstream()
    async with candle_publisher(settings.nats(), "test") as publisher:
        await publisher.publish(closing_and_forming(5))
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
    batch = closing_and_forming(250)
    async with candle_publisher(settings.nats(), "test", candles_per_message=100) as publisher:
        await publisher.publish(batch)
        await publisher.flush()
    messages = await all_messages(client, settings)
    closed, live = settings.name("candles.batch.1m"), settings.name("candles.live.batch.1m")
    assert [subject for subject, _ in messages] == [closed] * 3 + [live] * 3
    for part, wanted in ((messages[:3], batch.take(batch.closed)), (messages[3:], batch.take(~batch.closed))):
        rows = [row for _, data in part for row in orjson.loads(data)]
        assert [row["symbol"] for row in rows] == [wanted.symbol_of(row) for row in range(len(wanted))]
        assert [row["close"] for row in rows] == wanted.close.tolist()


async def test_forming_candles_may_travel_in_arrays_while_closed_ones_have_messages_of_their_own(
    settings: Settings, client: Client
):
    async with candle_publisher(settings.nats(), "test", forming_per_message=4) as publisher:
        await publisher.publish(closing_and_forming(10))
        await publisher.publish(candles(30), candles_per_message=200)
        await publisher.flush()
        assert publisher.unacknowledged == 0
    messages = await all_messages(client, settings)
    subjects = [subject.removeprefix(settings.name("")) for subject, _ in messages]
    assert subjects == [
        *(f"candles.1m.S{number}USDT" for number in range(10)),
        *["candles.live.batch.1m"] * 3,
        *["candles.batch.1m"] * 2,
    ]
    assert [len(orjson.loads(data)) for _, data in messages[10:]] == [4, 4, 2, 200, 100]


async def test_what_is_no_candle_is_handed_on_as_it_is(settings: Settings, client: Client):
    async with candle_publisher(settings.nats(), "test") as publisher:
        await publisher.publish_unreadable(b"\xff no candle")
        await publisher.flush()
    [(subject, data)] = await all_messages(client, settings)
    assert subject.startswith(settings.name("candles.live.1m.invalid-"))
    assert data == b"\xff no candle"


async def test_what_is_no_candle_is_cut_to_what_nats_takes(settings: Settings, client: Client):
    async with candle_publisher(settings.nats(), "test") as publisher:
        publisher._client._max_payload = 5_000
        await publisher.publish_unreadable(b"x" * 10_000)
        await publisher.flush()
    [(_, data)] = await all_messages(client, settings)
    assert 3_000 < len(data) < 5_000


async def test_a_connection_that_is_closed_for_good_is_reported(settings: Settings, client: Client):
    async with candle_publisher(settings.nats(), "test") as publisher:
        await publisher._client.close()
        await publisher.publish(candles(1))
        with pytest.raises(ServerUnreachable, match="for good"):
            await publisher.flush()


async def test_no_number_of_closed_candles_pushes_out_older_ones(settings: Settings, client: Client):
    batch = candles(minutes=12_000, symbols=1)
    async with candle_publisher(settings.nats(), "test") as publisher:
        await publisher.publish(batch)
        await publisher.flush()
    state = (await client.jetstream().stream_info(stream_name(settings.names()))).state
    assert (state.messages, state.first_seq) == (len(batch), 1)


async def test_a_stream_made_without_times_to_live_learns_them_and_keeps_its_limits(
    settings: Settings, client: Client
):
    jetstream = client.jetstream()
    subjects = [settings.name("candles.>")]
    await jetstream.add_stream(
        name=stream_name(settings.names()), subjects=subjects, max_msgs=777, max_age=3600
    )
    with capture_logs() as said:
        async with candle_publisher(settings.nats(), "test") as publisher:
            await publisher.publish(closing_and_forming(2))
            await publisher.flush()
    found = (await jetstream.stream_info(stream_name(settings.names()))).config
    assert (found.subjects, found.max_msgs, found.max_age) == (subjects, 777, 3600)
    assert bool(found.allow_msg_ttl) == knows_times_to_live(client)
    warned = "stream_keeps_forming_candles" in {line["event"] for line in said}
    assert warned == (not knows_times_to_live(client))


async def test_publishing_again_stores_nothing_twice_and_a_correction_is_new(
    settings: Settings, client: Client
):
    batch = candles(minutes=20)
    async with candle_publisher(settings.nats(), "test") as publisher:
        for version in (batch, batch, replace(batch, volume=batch.volume + 1)):
            await publisher.publish(version)
        await publisher.flush()
        assert publisher.counts.duplicates == len(batch)
    assert await stored(client.jetstream(), settings) == 2 * len(batch)


async def test_no_more_than_the_window_is_on_the_way_unacknowledged(settings: Settings, client: Client):
    publisher = CandlePublisher(client, settings.names(), window=30)
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
    async with candle_publisher(settings.nats(), "test") as publisher:
        config = (await jetstream.stream_info(stream_name(settings.names()))).config
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
    monkeypatch.setattr(app.wire.nats.publish, "_MAX_REFUSALS", 2)
    jetstream = client.jetstream()
    async with candle_publisher(settings.nats(), "test") as publisher:
        config = (await jetstream.stream_info(stream_name(settings.names()))).config
        await jetstream.update_stream(config, max_msgs=20, discard="new")
        await publisher.publish(candles(minutes=5))
        with pytest.raises(
            ServerUnreachable, match=r"does not accept candles on .*maximum messages exceeded"
        ):
            await publisher.flush()
        with pytest.raises(ServerUnreachable, match="check the disk"):
            await publisher.publish(candles(minutes=1))


async def test_a_candle_that_can_never_be_stored_is_reported_at_once(settings: Settings, client: Client):
    jetstream = client.jetstream()
    async with candle_publisher(settings.nats(), "test") as publisher:
        config = (await jetstream.stream_info(stream_name(settings.names()))).config
        await jetstream.update_stream(config, max_msg_size=50)
        await publisher.publish(candles(minutes=1))
        with pytest.raises(ServerError, match=r"rejects a candle on .*message size exceeds maximum"):
            await publisher.flush()
        assert publisher.counts.resent == 0


async def test_a_server_that_goes_away_and_comes_back_loses_nothing(tmp_path: Path):
    port = free_port()
    batch = candles(minutes=1200)
    with EmbeddedStack.start(tmp_path, ["nats"], {"nats": port}) as first:
        settings = settings_for(first.urls, kafka_url="-", redis_url="-", postgres_url="-")
        connection = candle_publisher(settings.nats(), "test")
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
