"""What the readers ask the database: alert history for clients, stored minutes for the calculator."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from app.candles.batch import MINUTE_MS, CandleBatch
from app.database.binary_format import array_values, to_ms
from app.database.named_queries import named_queries
from app.errors import BadInput
from app.topics import shard_of

_QUERIES = named_queries("reads.sql")

_VALUES = ("open", "high", "low", "close", "volume", "quote_volume")

Alert = dict[str, Any]
"""The JSON object of an alert with its seq; `timestamp` is RFC 3339 UTC with milliseconds."""


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """None does not filter; a list is matched by any of its entries. since_ms <= alert < until_ms, UTC."""

    symbols: Sequence[str] | None = None
    rule_types: Sequence[str] | None = None
    severities: Sequence[str] | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class AlertPage:
    """`next_cursor` continues with older alerts; None: there are none."""

    alerts: list[Alert]
    next_cursor: str | None


async def alerts_page(
    connection: AsyncConnection, wanted: AlertFilter, limit: int, cursor: str | None = None
) -> AlertPage:
    """At most `limit` alerts, newest first, from `cursor` on.

    Following the cursors gives each alert that existed at the first page exactly once, whatever is inserted
    meanwhile. Raises BadInput("bad_cursor") for a cursor that no page gave.
    """
    before_time, before_id = _decode_cursor(cursor) if cursor is not None else (None, None)
    parameters = {
        "symbols": _list(wanted.symbols),
        "rule_types": _list(wanted.rule_types),
        "severities": _list(wanted.severities),
        "since": _moment(wanted.since_ms),
        "until": _moment(wanted.until_ms),
        "before_time": before_time,
        "before_id": before_id,
        "rows": limit + 1,
    }
    rows = await _alert_rows(connection, "alerts_page", parameters)
    more = len(rows) > limit
    return AlertPage(
        alerts=[_alert(row) for row in rows[:limit]],
        next_cursor=_encode_cursor(rows[limit - 1]) if more else None,
    )


async def alerts_since(connection: AsyncConnection, seq: int, limit: int) -> list[Alert]:
    """At most `limit` alerts after `seq`, in the order of seq."""
    rows = await _alert_rows(connection, "alerts_since", {"seq": seq, "rows": limit})
    return [_alert(row) for row in rows]


async def latest_seq(connection: AsyncConnection) -> int | None:
    """The highest stored seq; None without alerts."""
    row = await (await connection.execute(_QUERIES["latest_seq"])).fetchone()
    return row[0] if row else None


async def oldest_seq(connection: AsyncConnection) -> int | None:
    """The lowest stored seq; None without alerts."""
    row = await (await connection.execute(_QUERIES["oldest_seq"])).fetchone()
    return row[0] if row else None


async def alert_seq(connection: AsyncConnection, identifier: str) -> int | None:
    """The seq of the alert with this id, which must be a UUID; None when it is not stored."""
    row = await (await connection.execute(_QUERIES["alert_seq"], {"id": identifier})).fetchone()
    return row[0] if row else None


async def stored_symbols(connection: AsyncConnection) -> list[str]:
    """All symbols that have stored minutes, sorted."""
    cursor = await connection.execute(_QUERIES["stored_symbols"])
    return [row[0] for row in await cursor.fetchall()]


async def newest_minute(connection: AsyncConnection, symbol: str) -> int | None:
    """The open time (UTC ms) of the symbol's newest stored minute; None without one."""
    row = await (await connection.execute(_QUERIES["newest_minute"], {"symbol": symbol})).fetchone()
    return None if row is None or row[0] is None else round(row[0].timestamp() * 1000)


async def load_minutes(
    connection: AsyncConnection, symbols: Sequence[str], since_ms: int, until_ms: int
) -> CandleBatch:
    """The stored minutes with since_ms <= open time < until_ms, in order of time, then of `symbols`.

    What the table does not hold is filled in: the taker volumes are NaN, all are closed, and event and ingest
    time are the end of the minute. Use one exchange's symbols: the table does not tell exchanges apart.
    """
    parameters = {"symbols": list(symbols), "since": _moment(since_ms), "until": _moment(until_ms)}
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(_QUERIES["minutes"], parameters)
        return _candles(tuple(symbols), await cursor.fetchall())


async def load_shard_minutes(
    connection: AsyncConnection, shard: int, partitions: int, since_ms: int, until_ms: int
) -> CandleBatch:
    """`load_minutes` of all stored symbols whose frames travel in this partition."""
    symbols = [s for s in await stored_symbols(connection) if shard_of(s, partitions) == shard]
    return await load_minutes(connection, symbols, since_ms, until_ms)


def _candles(symbols: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> CandleBatch:
    """`rows`: position of the symbol, then the binary arrays of its times, prices, volumes and trades."""
    times, *values, trades = (_joined(rows, column) for column in range(1, 9))
    index = np.repeat([row[0] for row in rows], [len(array_values(row[1], ">i8")) for row in rows])
    open_time_ms = to_ms(times)
    order = np.lexsort((index, open_time_ms))
    columns: dict[str, Any] = {
        name: column.astype(np.float64)[order] for name, column in zip(_VALUES, values, strict=True)
    }
    open_time_ms = open_time_ms[order]
    unknown = np.full(len(order), np.nan)
    return CandleBatch(
        symbols=symbols,
        symbol_index=index[order].astype(np.int32),
        open_time_ms=open_time_ms,
        **columns,
        trades=trades.astype(np.int64)[order],
        taker_buy_volume=unknown,
        taker_buy_quote_volume=unknown,
        quote_estimated=np.zeros(len(order), np.bool_),
        closed=np.ones(len(order), np.bool_),
        event_ts_ms=open_time_ms + MINUTE_MS,
        ingest_ts_ms=open_time_ms + MINUTE_MS,
    )


def _joined(rows: Sequence[tuple[Any, ...]], column: int) -> np.ndarray:
    kind = ">f8" if 2 <= column <= 7 else ">i8"
    return np.concatenate([np.empty(0, kind), *(array_values(row[column], kind) for row in rows)])


async def _alert_rows(connection: AsyncConnection, query: str, parameters: dict[str, Any]) -> list[Alert]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_QUERIES[query], parameters)
        return await cursor.fetchall()


def _alert(row: dict[str, Any]) -> Alert:
    time = row["time"].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "id": str(row["id"]),
        "seq": row["seq"],
        "symbol": row["symbol"],
        "rule_type": row["rule_type"],
        "rule_version": row["rule_version"],
        "severity": row["severity"],
        "description": row["description"],
        "timestamp": time,
        "price": row["price"],
        "metadata": row["metadata"],
        "timings": row["timings"],
    }


def _encode_cursor(row: dict[str, Any]) -> str:
    position = orjson.dumps([row["time"].isoformat(), str(row["id"])])
    return base64.urlsafe_b64encode(position).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    try:
        time, identifier = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        moment = datetime.fromisoformat(time)
        if moment.tzinfo is None:
            raise ValueError("no time zone")
        return moment, UUID(identifier)
    except (binascii.Error, ValueError, TypeError, AttributeError) as error:
        raise BadInput("bad_cursor", "cursor: use next_cursor of an earlier page as it was given") from error


def _moment(time_ms: int | None) -> datetime | None:
    return None if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC)


def _list(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)
