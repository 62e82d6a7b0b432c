"""The baseline of `benchmarks.klines`: one statement that bins, checks and sums in the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import LiteralString

import orjson
from psycopg import AsyncConnection, sql

from app.candles.intervals import Interval
from app.times import utc, utc_ms


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of `table` with since <= time < until. minutes: SQL for the number of minutes in a row."""

    table: str
    minutes: LiteralString
    since: datetime
    until: datetime


_PART = """
    SELECT time, open, high, low, close, volume, quote_volume, trades, taker_buy_volume, taker_buy_quote_volume,
           {minutes} AS minutes
    FROM {table} WHERE symbol = %(symbol)s AND time >= {since} AND time < {until}
"""
_BARS = """
    WITH bars AS (
        SELECT date_bin(%(length)s::interval, time, %(origin)s::timestamptz) AS bar, p.*,
               least(open, high, low, close) > 0 AND greatest(open, high, low, close) < 'infinity'
               AND least(volume, quote_volume, taker_buy_volume, taker_buy_quote_volume) >= 0
               AND greatest(volume, quote_volume, taker_buy_volume, taker_buy_quote_volume) < 1e30
               AND trades BETWEEN 0 AND 1000000000000 AS good
        FROM ({parts}) AS p
    )
    SELECT bar, (array_agg(open ORDER BY time))[1], max(high), min(low), (array_agg(close ORDER BY time DESC))[1],
           sum(volume::text::numeric), sum(quote_volume::text::numeric), sum(trades)::bigint,
           CASE WHEN count(taker_buy_volume) = count(*) THEN sum(taker_buy_volume::text::numeric) END,
           CASE WHEN count(taker_buy_quote_volume) = count(*) THEN sum(taker_buy_quote_volume::text::numeric) END,
           sum(minutes), bool_and(good)
    FROM bars GROUP BY bar ORDER BY bar
"""


async def plain_klines(
    connection: AsyncConnection, symbol: str, interval: Interval, limit: int, spans: list[Span]
) -> bytes:
    """Return the JSON text of the last `limit` bars."""
    length_ms, end = interval.length_ms, spans[-1].until
    assert length_ms is not None
    first = utc(interval.step(interval.start_of(utc_ms(end) - 1), 1 - limit))
    parts = [
        sql.SQL(_PART).format(
            table=sql.Identifier(span.table),
            minutes=sql.SQL(span.minutes),
            since=sql.Literal(max(first, span.since)),
            until=sql.Literal(span.until),
        )
        for span in spans
        if first < span.until
    ]
    statement = sql.SQL(_BARS).format(parts=sql.SQL(" UNION ALL ").join(parts))
    wanted = {
        "symbol": symbol,
        "length": timedelta(milliseconds=length_ms),
        "origin": utc(interval.origin_ms),
    }
    rows = await (await connection.execute(statement, wanted)).fetchall()
    bars = []
    for bar, *values, minutes, good in rows:
        start_ms = utc_ms(bar)
        end_ms = min(start_ms + length_ms, utc_ms(end))
        if good and minutes * 60_000 == end_ms - start_ms:
            *prices, volume, quote_volume, trades, taker, taker_quote = values
            texts = [_text(value) for value in (*prices, volume)]
            closed_ms = start_ms + length_ms - 1
            bars.append(
                [
                    start_ms,
                    *texts,
                    closed_ms,
                    _text(quote_volume),
                    trades,
                    _text(taker),
                    _text(taker_quote),
                    "0",
                ]
            )
    return orjson.dumps(bars)


def _text(value: float | Decimal) -> str:
    text = str(value)
    return format(Decimal(text), "f") if "e" in text.lower() else text
