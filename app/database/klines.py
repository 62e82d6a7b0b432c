"""Candles of any interval, aggregated by the database from the stored minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from psycopg import AsyncConnection

from app.candles.batch import MINUTE_MS
from app.candles.intervals import Interval
from app.database.named_queries import named_queries

_QUERIES = named_queries("klines.sql")
_LATEST_MS: Final = 253_370_764_800_000
"""9999-01-01: the bar after it has a name too, in any interval."""


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
    first_ms = None
    if since_ms is not None:
        start_ms = interval.start_of(min(max(0, since_ms), _LATEST_MS))
        first_ms = start_ms if start_ms >= since_ms else interval.step(start_ms, 1)
    by_month = interval.length_ms is None
    parameters = {
        "symbol": symbol,
        "by_month": by_month,
        "length": "1 month" if by_month else f"{interval.length_ms} milliseconds",
        "origin": _moment(interval.origin_ms),
        "bars": limit,
        "first": None if first_ms is None else _moment(first_ms),
        "last": _moment(_LATEST_MS if until_ms is None else min(until_ms - 1, _LATEST_MS)),
    }
    rows = await (await connection.execute(_QUERIES["klines"], parameters)).fetchall()
    if rows[0][0] is None:
        return None
    newest_ms = _ms(rows[0][0])
    bars = (_kline(interval, row[1:], newest_ms) for row in rows if row[1] is not None)
    return [kline for kline in bars if kline is not None]


def _kline(interval: Interval, row: Sequence[Any], newest_ms: int) -> Kline | None:
    """None for a bar of which a minute is missing."""
    start_ms = _ms(row[0])
    end_ms = interval.step(start_ms, 1)
    minutes = (min(end_ms, newest_ms + MINUTE_MS) - start_ms) // MINUTE_MS
    return Kline(start_ms, end_ms - 1, *row[1:-1]) if row[-1] == minutes else None


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
