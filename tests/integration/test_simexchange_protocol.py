"""The simulated exchange speaks as the real one was recorded: names, types, paths, refusals."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.support.eventually import eventually
from tests.support.market_data import market_data_dir
from tests.support.sim_exchange import MINUTE_MS, NOON_MS, Client, sim_exchange

PROTOCOL = market_data_dir() / "protocol"


@pytest.fixture
async def exchange() -> AsyncIterator[Client]:
    async with sim_exchange() as client:
        yield client


def shape(value: object) -> object:
    """Names, order and types of a JSON value; numbers in texts are told from other texts."""
    match value:
        case dict():
            return [(name, shape(member)) for name, member in value.items()]
        case list():
            return [shape(value[0])] if value else []
        case str():
            try:
                float(value)
            except ValueError:
                return "text"
            return "number as text"
        case _:
            return type(value)


def recorded(name: str) -> list[Any]:
    return [json.loads(line) for line in (PROTOCOL / name).read_text().splitlines()]


async def test_kline_events_have_the_names_order_and_types_of_recorded_ones(exchange: Client):
    frames = [line["msg"] for line in recorded("fstream_kline_frames.jsonl")]
    expected = {frame["data"]["k"]["x"]: shape(frame) for frame in frames}
    listener = await exchange.listen("btcusdt@kline_1m")
    await listener.until(lambda found: found.klines)
    await exchange.next_minute()
    await listener.until(lambda found: found.closed())
    events = [json.loads(text) for text in listener.texts]
    assert {event["data"]["k"]["x"]: shape(event) for event in events} == expected
    assert {event["stream"] for event in events} == {"btcusdt@kline_1m"}


async def test_ticker_arrays_have_the_names_order_and_types_of_recorded_ones(exchange: Client):
    arrays = {frame[0]["e"]: shape(frame[0]) for frame in recorded("ticker_array_frames.jsonl")}
    listener = await exchange.listen("!ticker@arr", "!miniTicker@arr", path="/ws/!ticker@arr/!miniTicker@arr")
    await listener.until(lambda found: len(found.texts) >= 2)
    events = [json.loads(text) for text in listener.texts]
    assert {event[0]["e"]: shape(event[0]) for event in events} == arrays
    assert {ticker["s"] for ticker in events[0]} == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}


async def test_exchange_info_has_the_names_and_types_of_the_recorded_one(exchange: Client):
    real = json.loads((PROTOCOL / "fapi_exchangeInfo_2021-07-22_122sym.json").read_text())
    ours = await exchange.get("/fapi/v1/exchangeInfo")
    assert list(ours) == list(real)
    assert shape(ours["rateLimits"]) == shape(real["rateLimits"])
    perpetual = real["symbols"][0]
    for entry in ours["symbols"]:
        assert shape(entry) == shape(perpetual) or entry["contractType"] != "PERPETUAL"
        assert list(entry) == list(perpetual)
        assert [f["filterType"] for f in entry["filters"]] == [f["filterType"] for f in perpetual["filters"]]
    kinds = {(entry["contractType"], entry["quoteAsset"]) for entry in ours["symbols"]}
    assert kinds == {
        ("PERPETUAL", "USDT"),
        ("CURRENT_QUARTER", "USDT"),
        ("PERPETUAL", "USDC"),
        ("TRADIFI_PERPETUAL", "USDT"),
    }


async def test_klines_are_arrays_of_twelve_as_documented(exchange: Client):
    rows = await exchange.klines("BTCUSDT", limit=3)
    number = "number as text"
    expected = [int, number, number, number, number, number, int, number, int, number, number, number]
    assert [[shape(cell) for cell in row] for row in rows] == [expected] * 3
    assert [row[0] for row in rows] == [NOON_MS - 2 * MINUTE_MS, NOON_MS - MINUTE_MS, NOON_MS]
    assert all(row[6] == row[0] + MINUTE_MS - 1 for row in rows)


async def test_24h_tickers_over_rest_agree_with_the_klines(exchange: Client):
    every = await exchange.get("/fapi/v1/ticker/24hr")
    one = await exchange.get("/fapi/v1/ticker/24hr", symbol="ETHUSDT")
    assert [ticker["symbol"] for ticker in every] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert one == next(ticker for ticker in every if ticker["symbol"] == "ETHUSDT")
    rows = await exchange.klines("ETHUSDT", startTime=NOON_MS - 1439 * MINUTE_MS, limit=1500)
    assert len(rows) == 1440
    assert float(one["highPrice"]) == max(float(row[2]) for row in rows)
    assert float(one["lowPrice"]) == min(float(row[3]) for row in rows)
    assert (one["openPrice"], one["lastPrice"]) == (rows[0][1], rows[-1][4])
    assert float(one["quoteVolume"]) == pytest.approx(sum(float(row[7]) for row in rows), rel=1e-9)


async def test_what_was_closed_over_websocket_is_what_rest_gives(exchange: Client):
    listener = await exchange.listen(*(f"{name}@kline_1m" for name in ("btcusdt", "ethusdt", "solusdt")))
    for number in range(1, 4):
        await exchange.next_minute()
        await listener.until(lambda found, wanted=3 * number: len(found.closed()) == wanted)
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        sent = [
            [k["t"], k["o"], k["h"], k["l"], k["c"], k["v"], k["T"], k["q"], k["n"], k["V"], k["Q"], k["B"]]
            for k in listener.closed(symbol)
        ]
        assert sent == await exchange.klines(symbol, startTime=NOON_MS, endTime=NOON_MS + 2 * MINUTE_MS)


async def test_a_five_minute_stream_closes_with_what_rest_gives(exchange: Client):
    listener = await exchange.listen("btcusdt@kline_5m")
    await listener.until(lambda found: found.klines)
    for _ in range(5):
        await exchange.next_minute()
    await listener.until(lambda found: found.closed())
    (bar,) = listener.closed()
    (row,) = await exchange.klines("BTCUSDT", "5m", startTime=NOON_MS, limit=1)
    assert [bar["t"], bar["o"], bar["h"], bar["l"], bar["c"], bar["v"], bar["T"], bar["q"]] == row[:8]


async def test_streams_go_on_while_a_long_history_is_computed():
    async with sim_exchange(history_days=25) as exchange:
        listener = await exchange.listen("btcusdt@kline_1m")
        await listener.until(lambda found: found.klines)
        asking = asyncio.create_task(exchange.klines("ETHUSDT", "1d", limit=25))
        seen = len(listener.texts)
        await listener.until(lambda found: len(found.texts) >= seen + 3)
        assert not asking.done()
        assert len(await asking) == 25


async def test_a_restarted_exchange_goes_on_with_the_same_market(exchange: Client):
    asked = {"startTime": NOON_MS - 50 * MINUTE_MS, "limit": 51}
    before = await exchange.klines("SOLUSDT", **asked)
    exchange.clock.advance_ms(30_000)
    half_way = await exchange.klines("SOLUSDT", **asked)
    async with sim_exchange(now_ms=NOON_MS + 30_000) as later:
        assert await later.klines("SOLUSDT", **asked) == half_way
        assert half_way[:-1] == before[:-1]
        await later.next_minute()
        await exchange.next_minute()
        assert await later.klines("SOLUSDT", **asked) == await exchange.klines("SOLUSDT", **asked)


@pytest.mark.parametrize("path", ["/ws", "/market/ws"])
async def test_streams_are_subscribed_listed_and_unsubscribed_by_message(exchange: Client, path: str):
    listener = await exchange.listen(path=path)

    async def ask(method: str, identifier: int, params: object = ()) -> Any:
        await listener.socket.send_json({"method": method, "params": params, "id": identifier})
        answers = await eventually(
            lambda: [m for m in map(json.loads, listener.texts) if m.get("id") == identifier]
        )
        return answers[0].get("result", answers[0].get("error"))

    assert await ask("SUBSCRIBE", 1, ["btcusdt@kline_1m", "ethusdt@kline_1m"]) is None
    await listener.until(lambda found: {kline["s"] for kline in found.klines} == {"BTCUSDT", "ETHUSDT"})
    assert await ask("LIST_SUBSCRIPTIONS", 2) == ["btcusdt@kline_1m", "ethusdt@kline_1m"]
    assert await ask("UNSUBSCRIBE", 3, ["btcusdt@kline_1m"]) is None
    listener.texts.clear()
    await listener.until(lambda found: len(found.klines) > 3)
    assert {kline["s"] for kline in listener.klines} == {"ETHUSDT"}
    assert (await ask("SUBSCRIBE", 4, ["nonsense"]))["code"] == 2
    assert (await ask("JUMP", 5))["code"] == 2


async def test_both_paths_of_combined_streams_are_served(exchange: Client):
    for path in ("/stream", "/market/stream"):
        listener = await exchange.listen("btcusdt@kline_1m", "nosuchusdt@kline_1m", path=path)
        await listener.until(lambda found: found.klines)


async def test_more_streams_than_allowed_are_refused():
    async with sim_exchange(streams_per_connection=2) as exchange:
        await exchange.listen("btcusdt@kline_1m", "ethusdt@kline_1m")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await exchange.listen("btcusdt@kline_1m", "ethusdt@kline_1m", "solusdt@kline_1m")
        assert refused.value.status == 400


async def test_connections_are_pinged_and_closed_at_the_end_of_their_life():
    async with sim_exchange(ping_s=0.5, lifetime_s=2.0) as exchange:
        listener = await exchange.listen("btcusdt@kline_1m")
        await listener.until(lambda found: found.pings and found.close_code)
        assert listener.close_code == 1001
        await eventually(lambda: not exchange.simulated.websockets.connections)


async def test_a_client_that_answers_no_ping_is_closed():
    async with (
        sim_exchange(ping_s=0.2, silence_s=0.5) as exchange,
        exchange.session.ws_connect(
            f"{exchange.url}/stream?streams=btcusdt@kline_1m", autoping=False
        ) as websocket,
    ):
        async with asyncio.timeout(20):
            while (message := await websocket.receive()).type is not aiohttp.WSMsgType.CLOSE:
                assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.PING)
        assert message.data == 1008


async def test_too_many_messages_a_second_end_the_connection(exchange: Client):
    listener = await exchange.listen(path="/ws")
    for number in range(40):
        await listener.socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
    await listener.until(lambda found: found.close_code)


async def test_a_client_that_reads_nothing_is_cut_and_the_others_feel_nothing():
    async with sim_exchange(send_buffer_max_bytes=20_000, updates_per_s=50.0) as exchange:
        streams = [
            f"{name}@kline_{interval}" for name in ("btcusdt", "ethusdt") for interval in ("1m", "3m", "5m")
        ]
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", exchange.simulated.port))
        connection.sendall(
            f"GET /stream?streams={'/'.join(streams)} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        await eventually(lambda: exchange.simulated.websockets.connections)
        swift = await exchange.listen(*streams)
        await eventually(lambda: exchange.simulated.websockets.cut_as_slow == 1, within_s=60)
        assert (await exchange.state())["connections_cut_as_slow"] == 1
        seen = len(swift.texts)
        await swift.until(lambda found: len(found.texts) > seen + 10)
        connection.close()


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"interval": "1m"}, -1102),
        ({"symbol": "NOSUCHUSDT", "interval": "1m"}, -1121),
        ({"symbol": "BTCUSDT"}, -1102),
        ({"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ({"symbol": "BTCUSDT", "interval": "1m", "limit": "1501"}, -1130),
        ({"symbol": "BTCUSDT", "interval": "1m", "startTime": "x"}, -1130),
        ({"symbol": "BTCUSDT", "interval": "1m", "startTime": "2", "endTime": "1"}, -1023),
    ],
)
async def test_bad_parameters_are_answered_with_the_exchanges_codes(
    exchange: Client, query: dict[str, str], code: int
):
    async with exchange.session.get(exchange.url + "/fapi/v1/klines", params=query) as answer:
        assert answer.status == 400
        assert (await answer.json())["code"] == code


@pytest.mark.parametrize(("limit", "weight"), [(99, 1), (100, 2), (499, 2), (500, 5), (1000, 5), (1001, 10)])
async def test_klines_weigh_by_their_number(exchange: Client, limit: int, weight: int):
    async with exchange.session.get(
        exchange.url + "/fapi/v1/klines", params={"symbol": "BTCUSDT", "interval": "1m", "limit": limit}
    ) as answer:
        assert answer.headers["X-MBX-USED-WEIGHT-1M"] == str(weight)


async def test_an_address_over_its_weight_gets_429_until_the_minute_is_over_and_then_a_ban():
    async with sim_exchange(weight_per_minute=100) as exchange:

        async def tickers() -> tuple[int, str | None]:
            async with exchange.session.get(exchange.url + "/fapi/v1/ticker/24hr") as answer:
                return answer.status, answer.headers.get("Retry-After")

        exchange.clock.advance_ms(15_000)
        assert [await tickers() for _ in range(3)] == [(200, None), (200, None), (429, "45")]
        exchange.clock.advance_ms(45_000)
        assert await tickers() == (200, None)
        statuses = {(await tickers())[0] for _ in range(40)}
        assert statuses == {200, 429, 418}
        exchange.clock.advance_ms(60_000)
        assert await tickers() == (418, "60")


@pytest.mark.parametrize("path", ["/fapi/v1/time", "/fapi/v1/klines", "/fapi/v1/nothing"])
async def test_pages_of_any_origin_may_read_answers_and_errors_of_the_protocol(exchange: Client, path: str):
    async with exchange.session.get(exchange.url + path, headers={"Origin": "https://example.com"}) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
    asked = {"Origin": "https://example.com", "Access-Control-Request-Method": "GET"}
    async with exchange.session.options(exchange.url + path, headers=asked) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Methods"] == "GET"
        assert answer.headers["Access-Control-Allow-Headers"] == "*"


async def test_pages_may_not_read_the_answers_of_commands_to_the_simulation(exchange: Client):
    async with exchange.session.get(
        exchange.url + "/sim/state", headers={"Origin": "https://example.com"}
    ) as answer:
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
