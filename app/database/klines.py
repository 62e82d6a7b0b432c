"""Candles of any interval, aggregated by the database from the stored minutes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from psycopg import AsyncConnection

from app.candles.batch import MINUTE_MS
from app.candles.intervals import Interval
from app.database.named_queries import named_queries

_QUERIES = named_queries("klines.sql")
_LATEST_MS: Final = 253_370_764_800_000
"""9999-01-01, near the end of what the language can name."""


@dataclass(frozen=True, slots=True)
class Kline:
    """close_time_ms: the last ms of the bar. Times are UTC ms; volumes are sums in base and quote asset."""

    open_time_ms: int
    close_time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trades: int


async def klines(
    connection: AsyncConnection,
    symbol: str,
    interval: Interval,
    limit: int,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> list[Kline] | None:
    """Bars with since_ms <= open time < until_ms, oldest first; None for a symbol without stored minutes.

    Those of the first `limit` bars from `since_ms` on, or without it of the last ones. A bar of which a minute is
    missing is left out: nothing is made up from a part of it. The last one may still be forming: it is given if
    all its minutes so far are there.
    """
    newest_ms = await _newest_minute(connection, symbol)
    if newest_ms is None:
        return None
    forming_ms = interval.start_of(newest_ms)
    last_ms = forming_ms if until_ms is None else min(forming_ms, interval.start_of(max(0, until_ms - 1)))
    if since_ms is None:
        first_ms = max(0, interval.step(last_ms, 1 - limit))
    else:
        first_ms = interval.start_of(min(max(0, since_ms), _LATEST_MS))
        first_ms = first_ms if first_ms >= since_ms else interval.step(first_ms, 1)
        last_ms = min(last_ms, interval.step(first_ms, limit - 1))
    if first_ms > last_ms or (until_ms is not None and until_ms <= first_ms):
        return []
    parameters = {
        "symbol": symbol,
        "by_month": interval.length_ms is None,
        "length": timedelta(milliseconds=interval.length_ms or MINUTE_MS),
        "origin": _moment(interval.origin_ms),
        "since": _moment(first_ms),
        "until": _moment(interval.step(last_ms, 1)),
    }
    rows = await (await connection.execute(_QUERIES["klines"], parameters)).fetchall()
    found = []
    for bar, open_, high, low, close, volume, quote_volume, trades, minutes in rows:
        start_ms = _ms(bar)
        end_ms = interval.step(start_ms, 1)
        whole = newest_ms + MINUTE_MS - start_ms if start_ms == forming_ms else end_ms - start_ms
        if minutes * MINUTE_MS == whole:
            found.append(Kline(start_ms, end_ms - 1, open_, high, low, close, volume, quote_volume, trades))
    return found


async def _newest_minute(connection: AsyncConnection, symbol: str) -> int | None:
    row = await (await connection.execute(_QUERIES["newest_minute"], {"symbol": symbol})).fetchone()
    return _ms(row[0]) if row and row[0] is not None else None


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
