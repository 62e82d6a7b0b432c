"""The 24 h tickers as one endpoint shows them, read from Redis once a second at most for any number of clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from redis.exceptions import RedisError

from app.sidecar.http.problems import unavailable
from app.wire.tickers import Ticker, TickerStore

_FRESH_S: Final = 1.0


class FreshTickers:
    """The JSON of each symbol's ticker."""

    def __init__(self, store: TickerStore, encode: Callable[[Ticker], bytes | None]) -> None:
        """encode: returns None for a ticker that is left out."""
        self._store = store
        self._encode = encode
        self._encoded: dict[str, bytes] = {}
        self._read_at_s = float("-inf")
        self._reading = asyncio.Lock()

    async def encoded(self) -> Mapping[str, bytes]:
        """Return symbol -> JSON, by name. Raises RequestError 503 while Redis does not answer."""
        loop = asyncio.get_running_loop()
        async with self._reading:
            if loop.time() - self._read_at_s >= _FRESH_S:
                try:
                    found = await self._store.read()
                except (RedisError, OSError, TimeoutError):
                    raise unavailable("the tickers") from None
                shown = ((ticker.symbol, self._encode(ticker)) for ticker in found)
                self._encoded = {symbol: text for symbol, text in shown if text is not None}
                self._read_at_s = loop.time()
            return self._encoded
