"""24 h tickers: the exchange's summary of each symbol's last day, in one Redis hash for every reader.

Key `tickers` in the settings' namespace; field = symbol, value = one JSON object with the fields of `Ticker`.
The feed writes, the sidecar reads. It is a cache: no later value is computed from it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import orjson
import structlog
from redis.asyncio import Redis

from app.candles.validity import is_time
from app.settings.access import Namespace

log = structlog.get_logger("tickers")


@dataclass(frozen=True, slots=True)
class ExchangeDay:
    """The last 24 h in the digits that the exchange writes: texts of numbers, times in UTC ms.

    price_change, weighted_average, last_price, open, high, low: quote asset. price_change_pct: percent. last_quantity,
    volume: base asset. trades: count.
    """

    price_change: str
    price_change_pct: str
    weighted_average: str
    last_price: str
    last_quantity: str
    open: str
    high: str
    low: str
    volume: str
    quote_volume: str
    open_time_ms: int
    close_time_ms: int
    trades: int


@dataclass(frozen=True, slots=True)
class Ticker:
    """One symbol over the 24 h up to `event_ts_ms` (UTC ms).

    last_price, high, low: quote asset. price_change_pct: percent. volume: base asset. quote_volume: quote asset.
    day: the same in the exchange's own digits, and more of it; None if the exchange does not tell all of it.
    """

    symbol: str
    last_price: float
    price_change_pct: float
    high: float
    low: float
    volume: float
    quote_volume: float
    event_ts_ms: int
    day: ExchangeDay | None = None


_FIELDS: Final = {field.name: str(field.type) for field in fields(Ticker) if field.name != "day"}
_DAY_TIMES: Final = ("open_time_ms", "close_time_ms")
_DAY_TYPES: Final = {field.name: int if field.type == "int" else str for field in fields(ExchangeDay)}


class TickerStore:
    """Reads and writes the hash. Every method raises redis.exceptions.RedisError or OSError while Redis does not
    answer."""

    def __init__(self, redis: Redis, namespace: Namespace) -> None:
        self._redis = redis
        self._key = namespace.name("tickers")

    async def write(self, tickers: Sequence[Ticker]) -> None:
        """Replace the values of these symbols; others keep theirs."""
        if tickers:
            await self._redis.hset(
                self._key, mapping={ticker.symbol: orjson.dumps(ticker) for ticker in tickers}
            )

    async def remove(self, symbols: Collection[str]) -> None:
        """Remove symbols that the exchange does not list any more."""
        if symbols:
            await self._redis.hdel(self._key, *symbols)

    async def read(self, symbols: Sequence[str] | None = None) -> list[Ticker]:
        """Return the tickers of the given symbols that have one, in that order; without `symbols` all, by name."""
        values: Sequence[bytes | str | None]
        if symbols is None:
            found = await self._redis.hgetall(self._key)
            values = [found[name] for name in sorted(found)]
        else:
            values = await self._redis.hmget(self._key, list(symbols)) if symbols else []
        tickers = (_decode(value) for value in values if value is not None)
        return [ticker for ticker in tickers if ticker is not None]


def _decode(value: bytes | str) -> Ticker | None:
    """Return None for anything but a ticker of this version: a foreign value must not fail the reader."""
    try:
        document = orjson.loads(value)
        values = {name: _checked(document[name], kind) for name, kind in _FIELDS.items()}
        return Ticker(**values, day=_day(document.get("day")))
    except (KeyError, TypeError, AttributeError, ValueError):
        log.warning("ticker_unreadable", value=value[:100])
        return None


def _checked(value: Any, kind: str) -> Any:
    """Return the value. Raises ValueError for a value of another type, and for a time or number out of bounds."""
    if kind == "float":
        fits = type(value) in (int, float) and math.isfinite(value)
    elif kind == "int":
        fits = type(value) is int and is_time(value)
    else:
        fits = type(value) is str
    if not fits:
        raise ValueError(f"{value!r:.100} is no {kind} of a ticker")
    return value


def _day(document: object) -> ExchangeDay | None:
    if not isinstance(document, dict):
        return None
    values: dict[str, Any] = {name: document.get(name) for name in _DAY_TYPES}
    if any(type(values[name]) is not kind for name, kind in _DAY_TYPES.items()):
        return None
    if not all(is_time(values[name]) for name in _DAY_TIMES):
        return None
    return ExchangeDay(**values)
