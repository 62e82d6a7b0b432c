"""The bridge's way of taking candles from a real NATS, whatever happens to stream and consumer."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import orjson
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

import app.wire.nats.publish
import app.wire.nats.pull
from app.bridge.run import run_bridge
from app.candles.batch import MINUTE_MS
from app.clock import ManualClock
from app.errors import ServerUnreachable
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import free_port
from app.settings import Settings
from app.telemetry import nats_metrics
from app.telemetry.catalogue import RoleRegistry
from app.wire.nats.progress import note_pending
from app.wire.nats.publish import candle_publisher
from app.wire.nats.pull import CandlePull
from app.wire.nats.stream import DURABLE, ensure_stream, stream_name
from tests.support.candle_batches import Candle, batch_of
from tests.support.candle_messages import MINUTE_START_MS, NOW_MS, candle, message
from tests.support.eventually import eventually
from tests.support.metric_values import value_of
from tests.support.servers import settings_for
from tests.support.topic_reader import dead_letters, ingress_candles


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    connected = await nats.connect(settings.server_urls().nats)
    yield connected
    await connected.jetstream().delete_stream(stream_name(settings.names()))
    await connected.close()


@pytest.fixture
async def readiness(settings: Settings, client: Client) -> AsyncIterator[list[bool]]:
    """What a running bridge says of its readiness, in order."""
    said: list[bool] = []
    stop = asyncio.Event()
    await ensure_stream(client, settings.names())
    bridge = asyncio.create_task(
        run_bridge(settings, ManualClock(NOW_MS), RoleRegistry("bridge"), stop, said.append)
    )
    yield said
    stop.set()
    await bridge


async def flows(client: Client, settings: Settings, symbol: str) -> None:
    await publish(client, settings, f"candles.1m.{symbol}", message(symbol))

    async def arrived() -> bool:
        return symbol in {row.symbol for _, row in await ingress_candles(settings, 1)}

    await eventually(arrived)


@pytest.mark.parametrize("gone", ["consumer", "stream"])
async def test_candles_flow_again_after_the_consumer_or_its_stream_was_deleted(
    settings: Settings, client: Client, readiness: list[bool], gone: str
):
    await flows(client, settings, "AUSDT")
    assert readiness == [True]
    if gone == "consumer":
        await client.jetstream().delete_consumer(stream_name(settings.names()), DURABLE)
    else:
        await client.jetstream().delete_stream(stream_name(settings.names()))
    await eventually(lambda: readiness == [True, False, True])
    await flows(client, settings, "BUSDT")


async def test_a_stream_that_cannot_be_created_is_tried_again_ever_later_until_it_can(
    settings: Settings, client: Client, readiness: list[bool]
):
    await eventually(lambda: readiness == [True])
    attempts_s: list[float] = []

    async def note(_: Msg) -> None:
        attempts_s.append(time.monotonic())

    await client.subscribe(f"$JS.API.STREAM.CREATE.{stream_name(settings.names())}", cb=note)
    jetstream = client.jetstream()
    config = (await jetstream.stream_info(stream_name(settings.names()))).config
    await jetstream.update_stream(config, subjects=[settings.name("elsewhere")])
    in_the_way = f"{stream_name(settings.names())}_OTHER"
    await jetstream.add_stream(name=in_the_way, subjects=[settings.name("candles.1m.X")])
    await jetstream.delete_stream(stream_name(settings.names()))
    await eventually(lambda: len(attempts_s) >= 3)
    # at the least half of 200 ms and half of 400 ms
    assert attempts_s[2] - attempts_s[0] > 0.3
    assert readiness == [True, False]
    await jetstream.delete_stream(in_the_way)
    await eventually(lambda: readiness == [True, False, True])
    await flows(client, settings, "AUSDT")


async def test_a_nats_that_comes_back_with_an_empty_disk_gets_its_stream_and_consumer_again(
    stack: EmbeddedStack, tmp_path: Path
):
    port = free_port()
    said: list[bool] = []
    stop = asyncio.Event()
    with EmbeddedStack.start(tmp_path / "first", ["nats"], {"nats": port}) as first:
        settings = settings_for(stack.urls | first.urls)
        bridge = asyncio.create_task(
            run_bridge(settings, ManualClock(NOW_MS), RoleRegistry("bridge"), stop, said.append)
        )
        await eventually(lambda: said == [True])
    await eventually(lambda: said == [True, False])
    (tmp_path / "second" / "nats").mkdir(parents=True)
    shutil.copy(tmp_path / "first" / "nats" / "password", tmp_path / "second" / "nats")
    with EmbeddedStack.start(tmp_path / "second", ["nats"], {"nats": port}):
        client = await nats.connect(settings.server_urls().nats)

        async def consumer_exists() -> bool:
            with contextlib.suppress(NotFoundError):
                return bool(await client.jetstream().consumer_info(stream_name(settings.names()), DURABLE))
            return False

        await eventually(consumer_exists)
        await flows(client, settings, "AUSDT")
        assert said[-1]
        stop.set()
        await bridge
        await client.close()


async def test_a_bridge_can_be_stopped_while_nats_is_away(stack: EmbeddedStack, tmp_path: Path):
    said: list[bool] = []
    stop = asyncio.Event()
    with EmbeddedStack.start(tmp_path, ["nats"]) as own:
        settings = settings_for(stack.urls | own.urls)
        bridge = asyncio.create_task(
            run_bridge(settings, ManualClock(NOW_MS), RoleRegistry("bridge"), stop, said.append)
        )
        await eventually(lambda: said == [True])
    await eventually(lambda: said == [True, False])
    stop.set()
    await bridge


@pytest.mark.usefixtures("readiness")
@pytest.mark.parametrize("whole_writes", [True, False])
@pytest.mark.parametrize("candles_per_message", [1, 3])
async def test_symbols_that_no_candle_may_carry_pass_the_publisher_and_end_as_dead_letters(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, whole_writes: bool, candles_per_message: int
):
    monkeypatch.setattr(app.wire.nats.publish, "_WHOLE_WRITES", whole_writes)
    good, bad = {"AUSDT", "BUSDT", "币安人生USDT"}, {"A.B", "A B", "a.*.>", "", "X\r\nPUB y 0"}
    minute = MINUTE_START_MS // MINUTE_MS
    batch = batch_of([Candle(symbol, minute) for symbol in (*sorted(bad), *sorted(good))])
    async with candle_publisher(settings.nats(), "test", candles_per_message) as publisher:
        await publisher.publish(batch)
        await publisher.flush()
    assert {row.symbol for _, row in await ingress_candles(settings, len(good))} == good
    letters = await dead_letters(settings, -(-len(bad) // candles_per_message))
    assert {letter["reason"] for letter in letters} == {"bad_symbol"}
    assert sum(letter["reasons"]["bad_symbol"] for letter in letters) == len(bad)
    originals = [orjson.loads(b64decode(letter["original"])) for letter in letters]
    refused = [one for original in originals for one in (original if type(original) is list else [original])]
    assert {one["symbol"] for one in refused} == bad


async def publish(client: Client, settings: Settings, subject: str, data: bytes) -> None:
    await client.jetstream().publish(settings.name(subject), data)


@pytest.mark.usefixtures("readiness")
async def test_an_array_of_five_hundred_candles_is_taken(settings: Settings, client: Client):
    symbols = [f"S{number}USDT" for number in range(500)]
    data = orjson.dumps([candle(symbol) for symbol in symbols])
    await publish(client, settings, "candles.batch.1m", data)
    found = await ingress_candles(settings, len(symbols))
    assert sorted(row.symbol for _, row in found) == sorted(symbols)


@pytest.mark.usefixtures("readiness")
async def test_a_large_message_that_is_no_json_is_kept_whole(settings: Settings, client: Client):
    data = b"[" + message() * 3_000
    assert 500_000 < len(data) < settings.message_max_bytes
    await publish(client, settings, "candles.batch.1m", data)
    [letter] = await dead_letters(settings, 1)
    assert letter["reason"] == "not_json"
    assert letter["truncated"] is False
    assert b64decode(letter["original"]) == data


@pytest.mark.usefixtures("readiness")
async def test_the_subject_says_whether_a_candle_is_closed_if_itself_does_not(
    settings: Settings, client: Client
):
    await publish(client, settings, "candles.live.1m.AUSDT", message("AUSDT"))
    await publish(client, settings, "candles.1m.BUSDT", message("BUSDT"))
    found = await ingress_candles(settings, 2)
    assert {row.symbol: row.closed for _, row in found} == {"AUSDT": False, "BUSDT": True}


async def test_what_the_bridges_have_not_dealt_with_is_counted_on_the_server(
    client: Client, settings: Settings
) -> None:
    pull = CandlePull(client, settings.names(), capacity=10, frame_max_delay_ms=settings.frame_max_delay_ms)
    await pull.open()
    for number in range(5):
        await publish(client, settings, "candles.1m.AUSDT", message("AUSDT", close=11.0 + number / 10))
    metrics = nats_metrics(CollectorRegistry())
    noting = asyncio.create_task(note_pending(client, settings.names(), metrics))
    await eventually(lambda: value_of(metrics.pending) == 5)
    noting.cancel()
    taken: list[Msg] = []
    while len(taken) < 5:
        taken += await pull.batch(5, 1_000_000, 0.01)
    await pull.acknowledge(taken[:3])
    await client.flush()
    noting = asyncio.create_task(note_pending(client, settings.names(), metrics))
    # delivered and not acknowledged is not dealt with
    await eventually(lambda: value_of(metrics.pending) == 2)
    noting.cancel()
    await asyncio.gather(noting, return_exceptions=True)
    await pull.release()


async def test_with_enough_bytes_waiting_no_more_are_asked_for(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app.wire.nats.pull, "_REQUEST_BYTES", 1_000)
    pull = CandlePull(client, settings.names(), capacity=20, frame_max_delay_ms=settings.frame_max_delay_ms)
    await pull.open()
    sent = [orjson.dumps(candle(f"S{number:02}USDT")) for number in range(60)]
    for number, data in enumerate(sent):
        await publish(client, settings, f"candles.1m.S{number:02}USDT", data)
    got: list[Msg] = []

    async def take(most: int) -> None:
        got.extend(await pull.batch(most, 1_000_000, 0.01))

    while not got:
        await take(1)
    await eventually(lambda: len(pull._buffer) == 19)
    await take(10)
    assert pull._outstanding == 0
    # six remain of the first twenty, then too few to hold anything up
    await take(3)
    assert pull._outstanding == 0
    await take(3)
    assert pull._outstanding > 0
    while len(got) < len(sent):
        await take(10)
    assert sorted(message.data for message in got) == sent
    assert pull._buffered_bytes == 0
    await pull.acknowledge(got)
    await pull.release()


async def test_a_close_ends_the_wait_for_forming_candles(client: Client, settings: Settings):
    pull = CandlePull(client, settings.names(), capacity=1_000, frame_max_delay_ms=1_000)
    await pull.open()

    async def forming() -> None:
        await publish(client, settings, "candles.live.1m.AUSDT", message("AUSDT"))

    async def batch() -> list[bool]:
        """Whether each message of the next batch is a close."""
        while not (messages := await pull.batch(1_000, 1_000_000)):
            pass
        await pull.acknowledge(messages)
        return [".live." not in one.subject for one in messages]

    async def stream() -> None:
        while True:
            await forming()
            await asyncio.sleep(0.02)

    # the first batches after a quiet time wait for a burst only
    for _ in range(7):
        await forming()
        assert await batch() == [False]
    streaming = asyncio.create_task(stream())
    try:
        assert len(await batch()) > 20
        taking = asyncio.create_task(batch())
        await eventually(lambda: len(pull._buffer) >= 3)
        await publish(client, settings, "candles.1m.AUSDT", message("AUSDT"))
        taken = await taking
    finally:
        streaming.cancel()
    assert True in taken
    # without it some forty forming candles more
    assert len(taken) - taken.index(True) < 20
    await pull.release()


async def test_a_connection_that_is_closed_for_good_ends_the_bridge(settings: Settings):
    lost = await nats.connect(settings.server_urls().nats)
    pull = CandlePull(lost, settings.names(), capacity=10, frame_max_delay_ms=settings.frame_max_delay_ms)
    await pull.open()
    assert await pull.batch(1, 1_000, 0.01) == []
    await lost.jetstream().delete_stream(stream_name(settings.names()))
    await lost.close()
    with pytest.raises(ServerUnreachable, match="for good"):
        await pull.batch(1, 1_000, 0.01)


async def test_acknowledgements_that_nats_was_away_too_long_for_end_nothing(tmp_path: Path):
    with EmbeddedStack.start(tmp_path, ["nats"]) as own:
        client = await nats.connect(own.urls["nats"], max_reconnect_attempts=-1, pending_size=512)
    await eventually(lambda: not client.is_connected)
    settings = Settings.load({})
    messages = [Msg(client, subject="", reply=f"$JS.ACK.{number}", data=b"") for number in range(100)]
    with capture_logs() as logs:
        await CandlePull(
            client, settings.names(), capacity=10, frame_max_delay_ms=settings.frame_max_delay_ms
        ).acknowledge(messages)
    assert [log["event"] for log in logs] == ["not_acknowledged"]
    with contextlib.suppress(ConnectionResetError):
        await client.close()
