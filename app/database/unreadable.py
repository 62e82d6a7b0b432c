"""Rows that cannot be used: a bad value costs only its row, which is counted and logged once."""

from __future__ import annotations

from typing import Any, Final

import orjson
import psycopg
import structlog
from psycopg.adapt import AdaptersMap
from psycopg.types.datetime import TimestamptzBinaryLoader, TimestamptzLoader
from psycopg.types.json import set_json_loads

from app.telemetry import DatabaseMetrics

log = structlog.get_logger("database")

_MOST_REMEMBERED: Final = 1_000
_told: dict[tuple[str, str], None] = {}


def tell(table: str, row: str, fault: str, metrics: DatabaseMetrics | None) -> None:
    """Count and log a row that is left out, the first time that this process meets it. metrics: of the role that
    reads; None for a command, which no Prometheus scrapes."""
    known = (table, row[:200])
    if known in _told:
        return
    _told[known] = None
    if len(_told) > _MOST_REMEMBERED:
        del _told[next(iter(_told))]
    if metrics is not None:
        metrics.unreadable.labels(table=table).inc()
    log.error("row_unreadable", table=table, row=known[1], error=fault[:500])


class _Time(TimestamptzLoader):
    """Return None for infinity, and for years beyond Python's range."""

    def load(self, data: Any) -> Any:
        try:
            return super().load(data)
        except (psycopg.DataError, ValueError, OverflowError):
            return None


class _BinaryTime(TimestamptzBinaryLoader):
    def load(self, data: Any) -> Any:
        try:
            return super().load(data)
        except (psycopg.DataError, ValueError, OverflowError):
            return None


def _json(data: str | bytes) -> Any:
    """Return None for a value nested too deep or out of range; numbers above 64 bits become floats, which
    can be written again."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_loader("timestamptz", _Time)
    adapters.register_loader("timestamptz", _BinaryTime)
    set_json_loads(_json, adapters)
    return adapters


ADAPTERS: Final = _adapters()
"""For connections that read: a value that Python cannot represent is None, instead of an error of the query."""
