"""Hypertables, compression and retention by TimescaleDB, where the server has the extension.

Run after the migrations at every start: each step can be repeated, and the retention follows the settings.
alert_history stays a plain table: its id must be unique over all time, which a hypertable cannot promise.
No TimescaleDB can be had from the package registries the tests may use: only the way without it is tested.
"""

from __future__ import annotations

import psycopg
import structlog
from psycopg import Connection, sql

from app.database.connection import connection_url, unreachable
from app.database.named_queries import named_queries
from app.settings import Settings

log = structlog.get_logger("database")

_QUERIES = named_queries("retention.sql")
_SEGMENT_BY = {"candles_1m": "symbol", "metrics_calculated": "symbol, timeframe"}


def use_timescale(settings: Settings) -> bool:
    """Hands candles and metrics to TimescaleDB if it is there; False: our own retention has to work.

    Blocking. Raises ServerUnreachable if the database does not answer.
    """
    try:
        with psycopg.connect(connection_url(settings, statement_timeout_ms=0), autocommit=True) as connection:
            return _use_timescale(connection, settings)
    except psycopg.OperationalError as error:
        raise unreachable(settings, error) from error


def _use_timescale(connection: Connection, settings: Settings) -> bool:
    found = connection.execute(_QUERIES["timescale_schema"]).fetchone()
    if found is None or found[0] is None:
        return False
    try:
        connection.execute(_QUERIES["install_timescale"])
    except psycopg.errors.InsufficientPrivilege as error:
        log.warning("timescale_not_used", error=str(error), advice="have an administrator create it")
        return False
    for table, segment_by in _SEGMENT_BY.items():
        with connection.transaction():
            compressed = connection.execute(_QUERIES["is_compressed"], {"table": table}).fetchone() == (True,)
            for step in _steps(compressed, settings.retention_hours):
                connection.execute(_statement(step, found[0], table, segment_by, settings.retention_hours))
    return True


def _steps(compressed: bool, retention_hours: int) -> tuple[str, ...]:
    # The compression of a table with compressed chunks must not be set again.
    hypertable = () if compressed else ("make_hypertable", "allow_compression", "compress_after_an_hour")
    retention = ("drop_chunks_after",) if retention_hours else ()
    return (*hypertable, "forget_retention", *retention)


def _statement(step: str, schema: str, table: str, segment_by: str, hours: int) -> sql.Composed:
    return sql.SQL(_QUERIES[step]).format(
        timescale=sql.Identifier(schema),
        table=sql.Identifier(table),
        table_text=sql.Literal(table),
        segment_by=sql.Literal(segment_by),
        hours=sql.Literal(hours),
    )
