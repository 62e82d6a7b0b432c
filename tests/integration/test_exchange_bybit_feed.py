"""The whole feed on the second venue: a local server with Bybit's documented messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from app.database.migrate import migrate
from app.settings import Settings
from tests.support.eventually import eventually
from tests.support.feeds import running_feed
from tests.support.http_server import serving

MINUTE_MS = 60_000
OPEN_MS = 1672324800000


@dataclass
class Bybit:
    now_ms: int = OPEN_MS + 30_000
    url: str = ""
    subscribed: list[list[str]] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)

    def _answer(self, result: dict[str, Any]) -> web.Response:
        return web.json_response({"retCode": 0, "retMsg": "OK", "result": result, "time": self.now_ms})

    async def instruments(self, _: web.Request) -> web.Response:
        common = {"contractType": "LinearPerpetual", "status": "Trading", "quoteCoin": "USDT"}
        launched = {"launchTime": str(OPEN_MS - 3 * MINUTE_MS)}
        bases = ("BTC", "SHIB1000")
        rows = [{"symbol": f"{base}USDT", "baseCoin": base, **common, **launched} for base in bases]
        return self._answer({"list": rows, "nextPageCursor": ""})

    async def tickers(self, _: web.Request) -> web.Response:
        return self._answer({"list": []})

    async def time(self, _: web.Request) -> web.Response:
        return self._answer({})

    async def klines(self, request: web.Request) -> web.Response:
        first_ms, last_ms = int(request.query["start"]), int(request.query["end"])
        times = range(first_ms, min(last_ms, self.now_ms) + 1, MINUTE_MS)
        rows = [[str(time_ms), "10", "12", "9", "11", "2", "21"] for time_ms in times]
        return self._answer({"symbol": request.query["symbol"], "list": rows[::-1]})

    async def linear(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            said = orjson.loads(message.data)
            if said["op"] == "subscribe":
                self.subscribed.append(said["args"])
                await socket.send_json({"success": True, "ret_msg": "", "op": "subscribe"})
        return socket


@asynccontextmanager
async def local_bybit() -> AsyncIterator[Bybit]:
    bybit = Bybit()
    app = web.Application()
    app.router.add_get("/v5/market/instruments-info", bybit.instruments)
    app.router.add_get("/v5/market/tickers", bybit.tickers)
    app.router.add_get("/v5/market/time", bybit.time)
    app.router.add_get("/v5/market/kline", bybit.klines)
    app.router.add_get("/v5/public/linear", bybit.linear)
    async with serving(app) as url:
        bybit.url = url.removeprefix("http://")
        yield bybit


async def test_its_candles_travel_with_its_name_under_canonical_symbols_and_gaps_are_fetched(
    settings: Settings,
):
    await asyncio.to_thread(migrate, settings.postgres())
    async with local_bybit() as bybit:
        urls = {
            "exchange": "bybit",
            "exchange_rest_url": f"http://{bybit.url}",
            "exchange_ws_url": f"ws://{bybit.url}/v5/public/linear",
        }
        async with running_feed(settings.model_copy(update=urls)) as running:
            await eventually(lambda: running.readiness[-1:] == [True])
            await eventually(lambda: len(running.feed.live) == 2)
            await eventually(lambda: bybit.subscribed)
            assert sorted(bybit.subscribed[0]) == ["kline.1.BTCUSDT", "kline.1.SHIB1000USDT"]
            # the minute of the other one ends with this, and comes over REST
            kline = {
                "start": OPEN_MS, "end": OPEN_MS + 59_999, "interval": "1", "open": "10", "close": "10.5",
                "high": "11", "low": "9", "volume": "3", "turnover": "31", "confirm": True, "timestamp": OPEN_MS,
            }  # fmt: skip
            bybit.now_ms = OPEN_MS + 70_000
            push = {"topic": "kline.1.BTCUSDT", "ts": bybit.now_ms, "type": "snapshot", "data": [kline]}
            await bybit.sockets[0].send_json(push)

            async def both_have_all_minutes() -> bool:
                found = {
                    symbol: await running.closed_minutes(symbol) for symbol in ("BTCUSDT", "1000SHIBUSDT")
                }
                wanted = [OPEN_MS + number * MINUTE_MS for number in (-3, -2, -1, 0)]
                return all(minutes == wanted for minutes in found.values())

            await eventually(both_have_all_minutes)
            messages = await running.messages()
            assert {b'"exchange":"bybit"' in data for _, data in messages} == {True}
            subjects = {subject for subject, _ in messages}
            assert {"candles.1m.BTCUSDT", "candles.1m.1000SHIBUSDT"} <= subjects
