"""A simulated exchange on its own port, with a clock that the test moves, and clients for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from app.clock import ManualClock
from app.local.exchange.market.market import Market
from app.local.exchange.market.simulated import SimulatedMarket
from app.local.exchange.options import ExchangeOptions
from app.local.exchange.server import SimExchange, serve_sim_exchange
from tests.support.eventually import eventually

MINUTE_MS = 60_000
NOON_MS = 20_780 * 86_400_000 + 12 * 3_600_000
Event = dict[str, Any]


class Listener:
    """Reads a WebSocket and keeps its messages."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.texts: list[str] = []
        self.pings: list[bytes] = []
        self.close_code: int | None = None

    async def run(self) -> None:
        """Read until the connection is closed, or until cancelled; then close the connection."""
        try:
            await self._run()
        finally:
            await self.socket.close()

    async def _run(self) -> None:
        while True:
            message = await self.socket.receive()
            match message.type:
                case aiohttp.WSMsgType.TEXT:
                    self.texts.append(message.data)
                case aiohttp.WSMsgType.PING:
                    self.pings.append(message.data)
                    await self.socket.pong(message.data)
                case aiohttp.WSMsgType.CLOSE | aiohttp.WSMsgType.CLOSED | aiohttp.WSMsgType.ERROR:
                    self.close_code = self.socket.close_code or 1006
                    return

    @property
    def klines(self) -> list[Event]:
        """The `k` objects received so far, from combined and raw streams."""
        events = [json.loads(text) for text in self.texts if text.startswith("{") and '"kline"' in text]
        return [data["k"] for event in events if "k" in (data := event.get("data", event))]

    def closed(self, symbol: str | None = None) -> list[Event]:
        return [kline for kline in self.klines if kline["x"] and symbol in (None, kline["s"])]

    async def until(self, condition: Callable[[Listener], object]) -> None:
        await eventually(lambda: condition(self))


@dataclass
class Client:
    """A test's access to one exchange."""

    simulated: SimExchange
    clock: ManualClock
    session: aiohttp.ClientSession
    listeners: list[asyncio.Task[None]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.simulated.port}"

    async def get(self, path: str, **query: object) -> Any:
        async with self.session.get(self.url + path, params={k: str(v) for k, v in query.items()}) as answer:
            return await answer.json()

    async def klines(self, symbol: str, interval: str = "1m", **query: object) -> list[list[Any]]:
        found: list[list[Any]] = await self.get("/fapi/v1/klines", symbol=symbol, interval=interval, **query)
        return found

    async def fault(self, **fault: object) -> dict[str, Any]:
        async with self.session.post(self.url + "/sim/faults", json=fault) as answer:
            body: dict[str, Any] = await answer.json()
            assert answer.status == 201, body
            return body

    async def end_faults(self) -> int:
        async with self.session.delete(self.url + "/sim/faults") as answer:
            body = await answer.json()
            return int(body["ended"])

    async def state(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.get("/sim/state")
        return found

    async def listen(self, *streams: str, path: str = "/stream") -> Listener:
        """Open a WebSocket; return when the exchange has registered it."""
        before = self.simulated.websockets.opened
        query = f"?streams={'/'.join(streams)}" if path.endswith("stream") else ""
        socket = await self.session.ws_connect(self.url + path + query, autoping=False)
        listener = Listener(socket)
        self.listeners.append(asyncio.create_task(listener.run()))
        await eventually(lambda: self.simulated.websockets.opened > before)
        return listener

    async def next_minute(self) -> int:
        """Move the clock to the start of the next minute; return the open time of the minute that ended."""
        minute = self.simulated.exchange.minute
        self.clock.advance_ms((minute + 1) * MINUTE_MS - self.clock.now_ms())
        await eventually(lambda: self.simulated.exchange.minute > minute)
        return minute * MINUTE_MS


@asynccontextmanager
async def sim_exchange(
    market: Market | None = None, *, now_ms: int = NOON_MS, **options: Any
) -> AsyncIterator[Client]:
    """Run an exchange: by default three contracts at noon of some day, twenty updates a second."""
    clock = ManualClock(now_ms)
    chosen = ExchangeOptions(**({"updates_per_s": 20.0, "history_days": 3} | options))
    async with (
        serve_sim_exchange(market or SimulatedMarket(3, seed=5), clock, chosen) as simulated,
        aiohttp.ClientSession() as session,
    ):
        client = Client(simulated, clock, session, [])
        try:
            yield client
        finally:
            for task in client.listeners:
                task.cancel()
            await asyncio.gather(*client.listeners, return_exceptions=True)
