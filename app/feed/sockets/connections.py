"""All sockets of a feed: the kline streams of its symbols, sharded, and the stream of tickers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, TypedDict

import aiohttp

from app.feed.exchanges.exchange import Venue
from app.feed.sockets.connection import Connection, SocketTimes
from app.feed.sockets.socket import Room, Streams, Take, always_room
from app.feed.universe import assign
from app.process.tasks import ended
from app.telemetry import FeedMetrics

TICKERS: Final = "tickers"
"""Name of the connection that reads tickers."""
_BETWEEN_OPENINGS_S: Final = 0.1
"""Exchanges count openings per address: 300 in 5 min on Binance."""


class ConnectionFacts(TypedDict):
    """A connection as the log shows it."""

    name: str
    state: str
    reconnects: int
    last_error: str


class Connections:
    """Keeps one connection per shard of the followed symbols; `follow` changes them while they run."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        venue: Venue,
        ws_url: str,
        take_klines: Take,
        room: Room,
        take_tickers: Take,
        patience: SocketTimes,
        metrics: FeedMetrics,
    ) -> None:
        self._session = session
        self._metrics = metrics
        self._venue = venue
        self._ws_url = ws_url
        self._take_klines = take_klines
        self._room = room
        self._take_tickers = take_tickers
        self._patience = patience
        self._shards: list[tuple[str, ...]] = []
        self._running: dict[str, tuple[Connection, asyncio.Task[None]]] = {}

    @property
    def connections(self) -> list[Connection]:
        return [connection for connection, _ in self._running.values()]

    @property
    def any_klines_open(self) -> bool:
        return any(one.is_open for name, (one, _) in self._running.items() if name != TICKERS)

    def facts(self) -> list[ConnectionFacts]:
        """Return one entry per connection."""
        return [
            {
                "name": connection.name,
                "state": connection.state.value,
                "reconnects": connection.reconnects,
                "last_error": connection.last_error,
            }
            for connection in self.connections
        ]

    async def follow(self, symbols: Sequence[str]) -> None:
        """Open, change and close connections so that these symbols, and all tickers, are read."""
        self._shards = assign(self._shards, symbols, self._venue.streams_per_connection)
        for number, shard in enumerate(self._shards):
            name = f"klines-{number}"
            if not shard:
                await self._end(name)
                continue
            streams = self._streams(
                self._venue.stream_url(self._ws_url, shard), self._venue.subscriptions(shard)
            )
            await self._read(name, streams, self._take_klines, self._room)
        ticker_url = self._venue.ticker_stream_url(self._ws_url)
        if ticker_url is not None:
            await self._read(TICKERS, self._streams(ticker_url), self._take_tickers, always_room)

    async def close(self) -> None:
        await ended(*(task for _, task in self._running.values()))

    def raise_failure(self) -> None:
        """Raise the error that ended a connection's task, which only an internal error does."""
        for _, task in self._running.values():
            if task.done():
                task.result()

    def _streams(self, url: str, messages: Sequence[str] = ()) -> Streams:
        venue = self._venue
        return Streams(url, tuple(messages), venue.keepalive, venue.keepalive_s, venue.keepalive_answer)

    async def _read(self, name: str, streams: Streams, take: Take, room: Room) -> None:
        if name in self._running:
            self._running[name][0].change(streams)
            return
        if self._running:
            await asyncio.sleep(_BETWEEN_OPENINGS_S)
        connection = Connection(name, self._session, streams, take, room, self._patience, self._metrics)
        task = asyncio.create_task(connection.run(), name=f"connection-{name}")
        self._running[name] = connection, task

    async def _end(self, name: str) -> None:
        running = self._running.pop(name, None)
        if running is not None:
            await ended(running[1])
