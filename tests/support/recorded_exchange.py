"""A local server that replays data recorded from Binance: frames, exchangeInfo, ticker arrays.

Data that was not recorded (24 h tickers over REST, klines, the time) is derived from the recorded data.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from app.candles.batch import MINUTE_MS
from tests.support.http_server import serving
from tests.support.market_data import market_data_dir

PROTOCOL = market_data_dir() / "protocol"


_INTERVALS_MS = {
    name: minutes * MINUTE_MS
    for name, minutes in {"1m": 1, "15m": 15, "1h": 60, "4h": 240, "8h": 480, "1d": 1440}.items()
}


@cache
def kline_messages() -> tuple[bytes, ...]:
    """Return the recorded frames as the exchange sent them, in order."""
    lines = (PROTOCOL / "fstream_kline_frames.jsonl").read_bytes().splitlines()
    return tuple(orjson.dumps(orjson.loads(line)["msg"]) for line in lines)


@cache
def ticker_messages() -> tuple[bytes, ...]:
    return tuple((PROTOCOL / "ticker_array_frames.jsonl").read_bytes().splitlines())


def exchange_info() -> dict[str, Any]:
    """Return a fresh copy of exchangeInfo, because tests change it."""
    return orjson.loads(_exchange_info_path().read_bytes())


def _exchange_info_path() -> Path:
    return PROTOCOL / "fapi_exchangeInfo_2021-07-22_122sym.json"


def recorded_symbols() -> set[str]:
    return {orjson.loads(message)["data"]["s"] for message in kline_messages()}


def kline_row(open_time_ms: int, price: float = 10.0) -> list[Any]:
    """Return a REST kline whose price identifies its minute."""
    text = str(price + open_time_ms // MINUTE_MS % 1000 / 1000)
    return [
        open_time_ms,
        text,
        text,
        text,
        text,
        "2",
        open_time_ms + MINUTE_MS - 1,
        "20.5",
        7,
        "1",
        "10.2",
        "0",
    ]


@dataclass
class RecordedExchange:
    """`now_ms`: the exchange's clock. Its WebSocket clients receive the messages passed to `send`."""

    now_ms: int
    url: str = ""
    symbols: list[dict[str, Any]] = field(default_factory=list)
    volumes: dict[str, float] = field(default_factory=dict)
    missing: set[tuple[str, int]] = field(default_factory=set)
    """Minutes that REST does not have."""
    listed_ms: int = 0
    """Before this time no symbol has klines."""
    faults: list[web.Response] = field(default_factory=list)
    """Answers to the next requests for minute klines, in place of the right ones."""
    answers_klines: asyncio.Event = field(default_factory=asyncio.Event)
    """Requests for minute klines wait while this is not set; it is set at first."""
    refuses_sockets: bool = False
    paths: list[str] = field(default_factory=list)
    asked_at_s: list[float] = field(default_factory=list)
    """The time of each request in `paths`, by the loop's clock."""
    klines_asked: list[dict[str, str]] = field(default_factory=list)
    """The queries of the requests for minute klines."""
    sockets: list[tuple[web.WebSocketResponse, list[str]]] = field(default_factory=list)
    opened: int = 0
    used_weight: int = 0

    def __post_init__(self) -> None:
        self.answers_klines.set()

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/market/stream"

    async def send(self, message: bytes, stream: str | None = None) -> None:
        """Send a message to every open socket, or only to the sockets that subscribe to `stream`."""
        for socket, streams in list(self.sockets):
            if not socket.closed and (stream is None or stream in streams):
                await socket.send_str(message.decode())

    async def cut(self) -> None:
        for socket, _ in list(self.sockets):
            await socket.close()

    def streams(self) -> list[set[str]]:
        """Return the streams of each open socket."""
        return [set(streams) for socket, streams in self.sockets if not socket.closed]

    async def info(self, request: web.Request) -> web.Response:
        return web.json_response({**exchange_info(), "serverTime": self.now_ms, "symbols": self.symbols})

    async def time(self, request: web.Request) -> web.Response:
        return web.json_response({"serverTime": self.now_ms})

    async def day(self, request: web.Request) -> web.Response:
        rows = [
            {
                "symbol": one["symbol"], "lastPrice": "11", "priceChangePercent": "10", "highPrice": "12",
                "lowPrice": "9", "volume": "100", "quoteVolume": str(self.volumes.get(one["symbol"], 1.0)),
                "closeTime": self.now_ms,
            }
            for one in self.symbols
        ]  # fmt: skip
        return web.json_response(rows)

    async def klines(self, request: web.Request) -> web.Response:
        if request.query["interval"] == "1m":
            self.klines_asked.append(dict(request.query))
            await self.answers_klines.wait()
        if self.faults and request.query["interval"] == "1m":
            return self.faults.pop(0)
        first_ms, last_ms = int(request.query["startTime"]), int(request.query["endTime"])
        step_ms = _INTERVALS_MS[request.query["interval"]]
        times = range(max(first_ms, self.listed_ms), min(last_ms, self.now_ms) + 1, step_ms)
        symbol = request.query["symbol"]
        rows = [kline_row(time_ms) for time_ms in times if (symbol, time_ms) not in self.missing]
        self.used_weight += 2
        headers = {"X-MBX-USED-WEIGHT-1M": str(self.used_weight)}
        return web.json_response(rows[: int(request.query["limit"])], headers=headers)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        if self.refuses_sockets:
            return web.Response(status=503)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.opened += 1
        entry = (socket, request.query["streams"].split("/"))
        self.sockets.append(entry)
        try:
            async for _ in socket:
                pass
        finally:
            self.sockets.remove(entry)
        return socket

    @web.middleware
    async def remember(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.paths.append(request.path)
        self.asked_at_s.append(asyncio.get_running_loop().time())
        return await handler(request)


@asynccontextmanager
async def recorded_exchange(now_ms: int) -> AsyncIterator[RecordedExchange]:
    exchange = RecordedExchange(now_ms, symbols=exchange_info()["symbols"])
    app = web.Application(middlewares=[exchange.remember])
    app.router.add_get("/fapi/v1/exchangeInfo", exchange.info)
    app.router.add_get("/fapi/v1/time", exchange.time)
    app.router.add_get("/fapi/v1/ticker/24hr", exchange.day)
    app.router.add_get("/fapi/v1/klines", exchange.klines)
    app.router.add_get("/market/stream", exchange.stream)
    async with serving(app) as exchange.url:
        try:
            yield exchange
        finally:
            await asyncio.gather(exchange.cut(), return_exceptions=True)
