"""24 h tickers: what the exchange says of each symbol's last day, in one Redis hash for every reader.

Key `tickers` in the settings' namespace; field = symbol, value = one JSON object with the fields of `Ticker`.
The feed writes, the sidecar reads. It is a cache: nothing downstream is computed from it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Final

import orjson
import structlog
from redis.asyncio import Redis

from app.settings import Settings

log = structlog.get_logger("tickers")


@dataclass(frozen=True, slots=True)
class Ticker:
    """One symbol over the 24 h up to `event_ts_ms` (UTC ms).

    last_price, high, low: quote asset. price_change_pct: percent. volume: base asset. quote_volume: quote asset.
    """

    symbol: str
    last_price: float
    price_change_pct: float
    high: float
    low: float
    volume: float
    quote_volume: float
    event_ts_ms: int


_FIELDS: Final = tuple(field.name for field in fields(Ticker))


class TickerStore:
    """The hash. Every method raises redis.exceptions.RedisError or OSError while Redis does not answer."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._key = settings.name("tickers")

    async def write(self, tickers: Sequence[Ticker]) -> None:
        """Replaces the values of these symbols; others keep theirs."""
        if tickers:
            await self._redis.hset(
                self._key, mapping={ticker.symbol: orjson.dumps(ticker) for ticker in tickers}
            )

    async def remove(self, symbols: Collection[str]) -> None:
        """Forgets symbols that the exchange has no longer."""
        if symbols:
            await self._redis.hdel(self._key, *symbols)

    async def read(self, symbols: Sequence[str] | None = None) -> list[Ticker]:
        """Those of the given symbols that have one, in that order; of all symbols, by name, without `symbols`."""
        values: Sequence[bytes | str | None]
        if symbols is None:
            found = await self._redis.hgetall(self._key)
            values = [found[name] for name in sorted(found)]
        else:
            values = await self._redis.hmget(self._key, list(symbols)) if symbols else []
        tickers = (_decode(value) for value in values if value is not None)
        return [ticker for ticker in tickers if ticker is not None]


def _decode(value: bytes | str) -> Ticker | None:
    """None for what is not a ticker of this version: a stranger's value must not fail the reader."""
    try:
        document = orjson.loads(value)
        return Ticker(**{name: document[name] for name in _FIELDS})
    except (orjson.JSONDecodeError, KeyError, TypeError):
        log.warning("ticker_unreadable", value=value[:100])
        return None
