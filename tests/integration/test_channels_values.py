"""The channels of metrics and candles on /ws: snapshots, updates, and clients that do not keep up."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson
import pytest

from app.settings import Settings
from app.sidecar.state.limits import SidecarLimits
from app.wire.frames import encode_metrics
from app.wire.kafka import kafka_producer
from app.wire.topics import Topics, shard_of
from tests.support.eventually import eventually
from tests.support.metric_batches import Row, metrics_batch, publish_metrics
from tests.support.sidecar import Conversation, prepare, running_sidecar
from tests.support.stalled_client import StalledClient

MINUTE_MS = 1_709_000_040_000
QUICK = SidecarLimits(update_interval_ms=20)


@pytest.fixture(autouse=True)
async def _prepared(settings: Settings) -> None:
    await prepare(settings)


def minute(symbol: str, number: int, close: float, **values: float) -> Row:
    return symbol, MINUTE_MS + number * 60_000, {"close_1m": close, "price_change_5m": close / 10, **values}


async def publish_minute(settings: Settings, row: Row, *, closed: bool) -> None:
    batch = metrics_batch([row])
    frame = encode_metrics(replace(batch, closed=batch.closed & closed))
    async with kafka_producer(settings.kafka()) as producer:
        await producer.send_and_wait(
            Topics.of(settings.names()).metrics, frame, partition=shard_of(row[0], settings.partitions)
        )


async def snapshot(socket: Conversation) -> list[dict]:
    values: list[dict] = []
    while True:
        part = await socket.hear_kind("snapshot")
        values += part["data"]
        if not part["more"]:
            return values


async def updates_until(socket: Conversation, symbol: str, close: float) -> list[dict]:
    """The values up to the one of `symbol` with this close, of channel candles or metrics."""
    values: list[dict] = []
    while True:
        message = await socket.hear_kind("update")
        for value in message["data"]:
            values.append(value)
            found = value.get("close", value.get("timeframes", {}).get("1m", {}).get("close"))
            if (value["symbol"], found) == (symbol, close):
                return values


async def test_metrics_begin_with_a_snapshot_of_the_wanted_symbols_and_go_on_with_what_changes(settings):
    async with running_sidecar(settings, QUICK) as client, client.channels() as socket:
        await publish_metrics(settings, [minute(s, 0, 1.5) for s in ("BTCUSDT", "ETHUSDT", "SOLUSDT")])
        await eventually(lambda: len(client.sidecar.parts.latest) == 3)
        answer = await socket.subscribe(
            "metrics", symbols=["BTCUSDT", "XRPUSDT"], timeframes=["5m"], fields=["price_change"]
        )
        assert answer["data"] == {
            "symbols": ["BTCUSDT", "XRPUSDT"],
            "timeframes": ["5m"],
            "fields": ["price_change"],
            "interval_ms": 250,
        }
        (first,) = await snapshot(socket)
        assert first == {
            "symbol": "BTCUSDT",
            "exchange": "binance",
            "timestamp": "2024-02-27T02:15:00.000Z",
            "open_time": "2024-02-27T02:14:00.000Z",
            "closed": True,
            "timeframes": {"5m": {"price_change": 0.15}},
        }
        await publish_metrics(settings, [minute("ETHUSDT", 1, 2.0), minute("XRPUSDT", 1, 3.0)])
        message = await socket.hear_kind("update")
    assert message["channel"] == "metrics"
    assert [(value["symbol"], value["timeframes"]) for value in message["data"]] == [
        ("XRPUSDT", {"5m": {"price_change": 0.3}})
    ]


async def test_a_snapshot_of_many_symbols_comes_in_parts_that_say_whether_more_follow(settings):
    symbols = [f"S{n:03}USDT" for n in range(40)]
    limits = replace(QUICK, block_bytes=8_192)
    async with running_sidecar(settings, limits) as client, client.channels() as socket:
        await publish_metrics(settings, [minute(symbol, 0, 1.0) for symbol in symbols])
        await eventually(lambda: len(client.sidecar.parts.latest) == 40)
        await socket.subscribe("metrics")
        parts = []
        while not parts or parts[-1]["more"]:
            parts.append(await socket.hear_kind("snapshot"))
        whole = [await client.get(f"/api/metrics/{symbol}") for symbol in symbols]
    assert len(parts) > 5
    assert [value for part in parts for value in part["data"]] == [body for _, body in whole]


async def test_a_snapshot_of_nothing_is_empty(settings):
    async with running_sidecar(settings, QUICK) as client, client.channels() as socket:
        await socket.subscribe("candles", symbols=["BTCUSDT"])
        assert await socket.hear() == {
            "type": "snapshot",
            "channel": "candles",
            "seq": 0,
            "more": False,
            "data": [],
        }


async def test_every_closed_candle_is_delivered_though_forming_ones_replace_one_another(settings):
    values = {
        "open_1m": 1.0,
        "high_1m": 3.0,
        "low_1m": 0.5,
        "base_volume_1m": 10.0,
        "quote_volume_1m": 15.0,
        "trades_1m": 7.0,
    }
    async with running_sidecar(settings, QUICK) as client, client.channels() as socket:
        await publish_minute(settings, minute("BTCUSDT", 0, 1.0, **values), closed=True)
        await eventually(lambda: "BTCUSDT" in client.sidecar.parts.latest)
        await socket.subscribe("candles", interval_ms=1_000)
        assert await snapshot(socket) == [
            {
                "symbol": "BTCUSDT",
                "exchange": "binance",
                "open_time": "2024-02-27T02:14:00.000Z",
                "closed": True,
                "open": 1.0,
                "high": 3.0,
                "low": 0.5,
                "close": 1.0,
                "volume": 10.0,
                "quote_volume": 15.0,
                "trades": 7.0,
            }
        ]
        for number in range(1, 6):
            for close in (1.1, 1.2):
                await publish_minute(settings, minute("BTCUSDT", number, close, **values), closed=False)
            await publish_minute(settings, minute("BTCUSDT", number, number * 10.0, **values), closed=True)
        await publish_minute(settings, minute("BTCUSDT", 6, 99.0, **values), closed=False)
        found = await updates_until(socket, "BTCUSDT", 99.0)
    closed = [(value["open_time"][11:16], value["close"]) for value in found if value["closed"]]
    assert list(dict.fromkeys(closed)) == [
        ("02:15", 10.0),
        ("02:16", 20.0),
        ("02:17", 30.0),
        ("02:18", 40.0),
        ("02:19", 50.0),
    ]
    assert found[-1]["closed"] is False


async def test_a_client_that_does_not_keep_up_gets_the_newest_values_and_stays(settings):
    symbols = [f"S{n:02}USDT" for n in range(30)]
    rounds = 12
    limits = replace(QUICK, client_socket_bytes=16_384, stalled_s=600.0)
    subscribe = orjson.dumps({"type": "subscribe", "channel": "metrics"})
    async with running_sidecar(settings, limits) as client, client.channels() as quick:
        await quick.subscribe("metrics", symbols=symbols[:1], timeframes=["1m"], fields=["close"])
        await snapshot(quick)
        async with StalledClient(client.sidecar.port, "/ws") as slow:
            await slow.send_text(subscribe)
            metrics, _ = client.sidecar.parts.channels
            await eventually(lambda: len(metrics) == 2)
            for number in range(1, rounds + 1):
                batch = metrics_batch([minute(symbol, number, float(number)) for symbol in symbols])
                async with kafka_producer(settings.kafka()) as producer:
                    await producer.send_and_wait(
                        Topics.of(settings.names()).metrics, encode_metrics(batch), partition=0
                    )
                await updates_until(quick, symbols[0], float(number))
            waiting_bytes = [
                receiver._transport.get_write_buffer_size()
                for receiver in client.sidecar.parts.clients._connected
            ]
            newest = {symbol: float(rounds) for symbol in symbols}
            heard: dict[str, list[float]] = {symbol: [] for symbol in symbols}

            def all_newest() -> bool:
                return all(closes[-1:] == [newest[symbol]] for symbol, closes in heard.items())

            async with asyncio.timeout(60):
                while not all_newest():
                    _, payload = await slow.next_frame()
                    message = orjson.loads(payload)
                    for value in message["data"] if message["type"] == "update" else ():
                        heard[value["symbol"]].append(value["timeframes"]["1m"]["close"])
            assert len(client.sidecar.parts.clients) == 2
    assert all(closes == sorted(closes) for closes in heard.values())
    assert max(map(len, heard.values())) < rounds // 2
    assert max(waiting_bytes) < limits.client_socket_bytes + 2 * limits.block_bytes, "one update is 240 kB"


async def test_updates_come_no_oftener_than_the_client_asked(settings):
    async with running_sidecar(settings, QUICK) as client, client.channels() as socket:
        await socket.subscribe("metrics", interval_ms=60_000)
        await snapshot(socket)
        await publish_metrics(settings, [minute("BTCUSDT", 0, 1.0)])
        first = await socket.hear_kind("update")
        await publish_metrics(settings, [minute("BTCUSDT", 1, 2.0)])
        await eventually(lambda: client.sidecar.parts.latest.row("BTCUSDT").open_time_ms > MINUTE_MS)
        await socket.say("ping")
        assert (await socket.hear())["type"] == "pong"
    assert [value["symbol"] for value in first["data"]] == ["BTCUSDT"]


async def test_one_address_has_few_different_choices_of_fields_and_is_told_which_bound_it_met(settings):
    choices = [["close"], ["open"], ["high"]]
    async with (
        running_sidecar(settings, replace(QUICK, field_sets_per_owner=2)) as client,
        client.channels() as first,
        client.channels() as second,
        client.channels() as third,
    ):
        for socket, fields in zip((first, second), choices, strict=False):
            await socket.subscribe("metrics", fields=fields)
            await snapshot(socket)
        await third.say("subscribe", channel="metrics", fields=choices[2], id="mine")
        refusal = await third.hear_kind("error")
        assert (refusal["data"]["error"], refusal["channel"], refusal["id"]) == (
            "too_many_field_sets",
            "metrics",
            "mine",
        )
        await third.subscribe("metrics", fields=choices[0])
        await snapshot(third)
        await second.say("unsubscribe", channel="metrics")
        await second.hear_kind("unsubscribed")
        await third.subscribe("metrics", fields=choices[2])
