"""The bridge between real NATS and a real broker: nothing lost, nothing acknowledged too early."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import nats
import pytest
from aiokafka import ConsumerRecord
from nats.aio.client import Client
from nats.js.api import ConsumerInfo
from nats.js.errors import NotFoundError

import app.wire.nats.stream
from app.bridge.run import run_bridge
from app.candles.batch import MINUTE_MS
from app.clock import ManualClock
from app.errors import ServerUnreachable
from app.library_internals import write_whole
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import free_port
from app.settings import Settings
from app.telemetry import nats_metrics, pipeline_metrics
from app.telemetry.catalogue import RoleRegistry
from app.wire.frames import decode_candles
from app.wire.kafka import ensure_topics
from app.wire.nats.pull import CandlePull
from app.wire.nats.stream import DURABLE, connect, ensure_stream, stream_name
from app.wire.topics import Topics, shard_of
from tests.support.candle_messages import MINUTE_START_MS, NOW_MS, message
from tests.support.eventually import eventually
from tests.support.metric_values import value_of
from tests.support.servers import settings_for
from tests.support.topic_reader import dead_letters, ingress_candles, read_until

REGISTRY = RoleRegistry("bridge")

SYMBOLS = [f"COIN{number}USDT" for number in range(40)]


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with connected(settings) as found:
        yield found


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Client]:
    """A client, and the stream of candles, which reserves its largest size while it lasts."""
    found = await nats.connect(settings.server_urls().nats)
    await ensure_stream(found, settings.names())
    yield found
    await found.jetstream().delete_stream(stream_name(settings.names()))
    await found.close()


@asynccontextmanager
async def bridge(settings: Settings) -> AsyncIterator[asyncio.Task[None]]:
    """A running bridge, stopped in good order."""
    # first, because whoever asks the embedded broker for a topic makes it, with partitions of its own choice
    await ensure_topics(settings.kafka())
    stop = asyncio.Event()
    running = asyncio.create_task(run_bridge(settings, ManualClock(NOW_MS), REGISTRY, stop))
    yield running
    stop.set()
    with suppress(asyncio.CancelledError):
        await running


async def publish(client: Client, settings: Settings, messages: Iterable[bytes], symbol: str = "ANY") -> None:
    for data in messages:
        await client.jetstream().publish(settings.name(f"candles.1m.{symbol}"), data)


def candles(symbols: Iterable[str] = SYMBOLS, minutes: int = 1) -> list[bytes]:
    return [
        message(symbol, open_time=MINUTE_START_MS - minute * MINUTE_MS)
        for minute in range(minutes)
        for symbol in symbols
    ]


async def consumer(client: Client, settings: Settings) -> ConsumerInfo:
    return await client.jetstream().consumer_info(stream_name(settings.names()), DURABLE)


async def all_acknowledged(client: Client, settings: Settings) -> bool:
    stream = await client.jetstream().stream_info(stream_name(settings.names()))
    found = await consumer(client, settings)
    floor = found.ack_floor.stream_seq if found.ack_floor else 0
    return floor >= stream.state.last_seq and found.num_pending == 0 and found.num_ack_pending == 0


def counted(reason: str) -> float:
    return value_of(pipeline_metrics(REGISTRY).dead_letters.labels(stage="bridge", reason=reason))


async def test_candles_arrive_in_frames_of_their_shard_and_are_acknowledged(
    settings: Settings, client: Client
):
    settings = settings.model_copy(update={"partitions": 3})
    received = value_of(nats_metrics(REGISTRY).received)
    async with bridge(settings):
        await publish(client, settings, candles())
        found = await ingress_candles(settings, len(SYMBOLS))
        await eventually(lambda: all_acknowledged(client, settings))
    assert sorted(row.symbol for _, row in found) == sorted(SYMBOLS)
    assert all(partition == shard_of(row.symbol, 3) for partition, row in found)
    assert {partition for partition, _ in found} == {0, 1, 2}
    assert value_of(nats_metrics(REGISTRY).received) - received == len(SYMBOLS)


@pytest.mark.parametrize(
    ("subject", "headers"),
    [
        (b"\xff\xfe", None),
        (b"A\x0b5", None),
        (b"A\x0cB", None),
        (b"\x1b[2J", None),
        (b"A", b""),
        (b"A", b"\r\n"),
        (b"A", b"NATS/1.0"),
        (b"A", b"NATS/1.0 \xff\xfe\xfd x\r\n\r\n"),
        (b"A", b"NATS/1.0\r\n\xff: \xff\r\n\r\n"),
    ],
)
async def test_a_message_whose_subject_or_headers_are_no_text_does_not_stop_the_others(
    settings: Settings, client: Client, subject: bytes, headers: bytes | None
):
    place, data = settings.name("candles.1m.").encode() + subject, b"no candle"
    raw = b"PUB %b %d\r\n%b\r\n" % (place, len(data), data)
    if headers is not None:
        raw = b"HPUB %b %d %d\r\n%b%b\r\n" % (place, len(headers), len(headers + data), headers, data)
    await write_whole(client, raw)
    await client.flush()
    async with bridge(settings):
        await publish(client, settings, candles())
        found = await ingress_candles(settings, len(SYMBOLS))
        assert sorted(row.symbol for _, row in found) == sorted(SYMBOLS)
        await eventually(lambda: all_acknowledged(client, settings))
    letters = await dead_letters(settings, 1)
    assert [base64.b64decode(letter["original"]) for letter in letters] == [data]


async def test_bad_messages_become_dead_letters_and_their_neighbours_arrive(
    settings: Settings, client: Client
):
    bad = {
        "not_json": b"candle!\xff",
        "missing_field": message(close=...),
        "bad_type": b"null",
        "negative": message(volume=-1),
        "misaligned": message(open_time=MINUTE_START_MS + 1),
        "future": message(open_time=NOW_MS + 5 * MINUTE_MS),
        "bad_symbol": message("btc/usdt"),
        "not_finite": message(close="NaN"),
    }
    good = candles()
    mixed = [data for pair in zip(good, bad.values(), strict=False) for data in pair] + good[len(bad) :]
    before = {reason: counted(reason) for reason in bad}
    async with bridge(settings):
        await publish(client, settings, mixed, symbol="BTCUSDT")
        letters = await dead_letters(settings, len(bad))
        found = await ingress_candles(settings, len(good))
        await eventually(lambda: all_acknowledged(client, settings))
    assert {letter["reason"]: base64.b64decode(letter["original"]) for letter in letters} == bad
    for letter in letters:
        assert letter["stage"] == "bridge"
        assert letter["source"] == settings.name("candles.1m.BTCUSDT")
        assert letter["message"]
        assert letter["timestamp"] == "2023-11-14T22:15:00Z"
        assert (letter["truncated"], letter["original_bytes"]) == (False, len(bad[letter["reason"]]))
    assert sorted(row.symbol for _, row in found) == sorted(SYMBOLS)
    assert {reason: counted(reason) - before[reason] for reason in bad} == dict.fromkeys(bad, 1.0)


async def test_a_message_of_ten_megabytes_is_a_dead_letter_cut_short(settings: Settings, client: Client):
    huge = b'{"symbol":"' + b"A" * 10_000_000 + b'"}'
    async with bridge(settings):
        await publish(client, settings, [huge, *candles()])
        letters = await dead_letters(settings, 1)
        await ingress_candles(settings, len(SYMBOLS))
        await eventually(lambda: all_acknowledged(client, settings))
    letter = letters[0]
    original = base64.b64decode(letter["original"])
    assert (letter["reason"], letter["truncated"], letter["original_bytes"]) == ("too_large", True, len(huge))
    assert 1_000 < len(original) < len(huge)
    assert huge.startswith(original)


async def test_a_frame_has_no_more_rows_than_allowed(settings: Settings, client: Client):
    settings = settings.model_copy(update={"frame_max_rows": 7, "partitions": 1, "frame_max_delay_ms": 50})
    await publish(client, settings, candles())
    async with bridge(settings):
        topic = Topics.of(settings.names()).ingress
        records = await read_until(settings, topic, lambda found: sum(map(rows_in, found)) >= len(SYMBOLS))
        await eventually(lambda: all_acknowledged(client, settings))
    assert max(map(rows_in, records)) <= 7


def rows_in(record: ConsumerRecord) -> int:
    return len(decode_candles(record.value)[0])


async def test_two_bridges_share_the_work_and_nothing_comes_twice(settings: Settings, client: Client):
    async with bridge(settings), bridge(settings):
        await eventually(lambda: waiting(client, settings))
        await publish(client, settings, candles(minutes=5))
        found = await ingress_candles(settings, 5 * len(SYMBOLS))
        await eventually(lambda: all_acknowledged(client, settings))
    assert len(found) == 5 * len(SYMBOLS)


async def waiting(client: Client, settings: Settings) -> bool:
    """Both bridges have asked for messages."""
    try:
        return ((await consumer(client, settings)).num_waiting or 0) >= 2
    except NotFoundError:
        return False


async def test_a_bridge_killed_midway_loses_nothing(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app.wire.nats.stream, "_ACK_WAIT_S", 1.0)
    settings = settings.model_copy(update={"frame_max_rows": 5})
    await publish(client, settings, candles(minutes=10))
    await ensure_topics(settings.kafka())
    killed = asyncio.create_task(run_bridge(settings, ManualClock(NOW_MS), REGISTRY, asyncio.Event()))
    await ingress_candles(settings, 1)
    killed.cancel()
    with suppress(asyncio.CancelledError):
        await killed
    async with bridge(settings):
        found = await ingress_candles(settings, 10 * len(SYMBOLS))
        await eventually(lambda: all_acknowledged(client, settings))
    assert len({(row.symbol, row.minute) for _, row in found}) == 10 * len(SYMBOLS)


async def test_what_a_stopping_bridge_has_not_taken_goes_to_the_next_one_at_once(
    settings: Settings, client: Client
):
    leaving = CandlePull(
        client, settings.names(), capacity=100, frame_max_delay_ms=settings.frame_max_delay_ms
    )
    await leaving.open()
    await publish(client, settings, candles())
    taken = await leaving.batch(3, 1_000_000)
    await eventually(lambda: len(leaving._buffer) + len(taken) == len(SYMBOLS))
    await leaving.acknowledge(taken)
    await leaving.release()
    async with bridge(settings):
        found = await ingress_candles(settings, len(SYMBOLS) - len(taken))
        await eventually(lambda: all_acknowledged(client, settings))
    assert len(found) == len(SYMBOLS) - len(taken)


@pytest.fixture
def own_servers(tmp_path: Path) -> Iterator[EmbeddedStack]:
    with EmbeddedStack.start(tmp_path, ["nats", "kafka"]) as running:
        yield running


async def test_nothing_is_acknowledged_while_kafka_is_away_and_all_arrives_when_it_is_back(
    own_servers: EmbeddedStack,
):
    urls = {"redis": "redis://127.0.0.1:1/0", "postgres": "postgresql://127.0.0.1:1/x"} | own_servers.urls
    settings = settings_for(urls)
    kafka = own_servers.processes["kafka"]
    async with connected(settings) as client:
        async with bridge(settings) as running:
            await publish(client, settings, candles(SYMBOLS[:1]))
            await ingress_candles(settings, 1)
            await eventually(lambda: all_acknowledged(client, settings))
            # the embedded broker keeps its topics in memory: it is held, not ended
            os.killpg(kafka.pid or 0, signal.SIGSTOP)
            await publish(client, settings, [b"not json", *candles(SYMBOLS[1:])])
            await eventually(lambda: delivered(client, settings, len(SYMBOLS) + 1))
            held_back = await consumer(client, settings)
            assert held_back.ack_floor is not None
            assert held_back.ack_floor.stream_seq == 1
            assert not running.done()
            os.killpg(kafka.pid or 0, signal.SIGCONT)
            found = await ingress_candles(settings, len(SYMBOLS))
            letters = await dead_letters(settings, 1)
            await eventually(lambda: all_acknowledged(client, settings), within_s=30)
        assert sorted(row.symbol for _, row in found) == sorted(SYMBOLS)
        assert {letter["reason"] for letter in letters} == {"not_json"}


async def delivered(client: Client, settings: Settings, messages: int) -> bool:
    found = await consumer(client, settings)
    return found.delivered is not None and found.delivered.stream_seq >= messages


async def test_a_wrong_url_of_nats_names_the_setting():
    with pytest.raises(ServerUnreachable, match="SCREENER_NATS_URL"):
        await connect(f"nats://127.0.0.1:{free_port()}", "test")
