"""GET /api/symbols and /api/tickers: which symbols there are, and how their last 24 h went."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import orjson
from aiohttp import web
from redis.exceptions import RedisError

from app.sidecar.answers import conditional_json
from app.sidecar.latest import LatestMetrics
from app.sidecar.parameters import SYMBOL, Parameters
from app.sidecar.problems import unavailable, unknown_symbol
from app.sidecar.times import rfc3339
from app.tickers import Ticker, TickerStore

_FRESH_S: Final = 1.0


class SymbolsEndpoint:
    def __init__(self, latest: LatestMetrics) -> None:
        self._latest = latest

    async def get(self, request: web.Request) -> web.Response:
        Parameters(request.query, ())
        found = [
            {"symbol": seen.symbol, "exchange": seen.exchange, "timestamp": rfc3339(seen.event_ts_ms)}
            for seen in self._latest.seen()
        ]
        return conditional_json(request, orjson.dumps({"symbols": found}))


class TickersEndpoint:
    """Asks Redis once a second at most, however many clients ask here."""

    def __init__(self, store: TickerStore) -> None:
        self._store = store
        self._encoded: dict[str, bytes] = {}
        self._read_at_s = float("-inf")
        self._reading = asyncio.Lock()

    async def get(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, ("symbols",))
        symbols: Sequence[str] = parameters.words("symbols", SYMBOL, "a symbol such as BTCUSDT")
        known = await self._tickers()
        if not all(symbol in known for symbol in symbols):
            raise unknown_symbol("no ticker is known for one of these symbols")
        found = [known[symbol] for symbol in symbols] if symbols else known.values()
        return conditional_json(request, b'{"tickers":[' + b",".join(found) + b"]}")

    async def _tickers(self) -> dict[str, bytes]:
        loop = asyncio.get_running_loop()
        async with self._reading:
            if loop.time() - self._read_at_s >= _FRESH_S:
                try:
                    found = await self._store.read()
                except (RedisError, OSError, TimeoutError):
                    raise unavailable("the tickers") from None
                self._encoded = {ticker.symbol: _encode(ticker) for ticker in found}
                self._read_at_s = loop.time()
            return self._encoded


def _encode(ticker: Ticker) -> bytes:
    return orjson.dumps(
        {
            "symbol": ticker.symbol,
            "last_price": ticker.last_price,
            "price_change_pct": ticker.price_change_pct,
            "high": ticker.high,
            "low": ticker.low,
            "volume": ticker.volume,
            "quote_volume": ticker.quote_volume,
            "timestamp": rfc3339(ticker.event_ts_ms),
        }
    )
