"""Makes candles, longer bars and metrics hypertables where the server has TimescaleDB, compressed where its licence
allows; and tells how they are stored.

`screener migrate` sets them up after the migrations, as the schema's owner and under a database lock; each step can be
repeated. Expired chunks are dropped by the sinks (`app.sinks.retention`), not by a policy: the same job works under
each licence, and where no background worker runs.
alert_history stays a plain table: its id must be unique over all time, which a hypertable cannot promise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg
import structlog
from psycopg import AsyncConnection, sql

from app.database.candles.bar_tables import BAR_TABLES
from app.database.named_queries import named_queries

log = structlog.get_logger("database")

CHUNK_LENGTH: Final = "1 day"
"""Length of a chunk of minutes: a year is 365 chunks, and a compressed batch has hundreds of rows."""
COMPRESS_AFTER: Final = "1 day"
"""How long after its end a chunk is compressed. The feed fetches a day of history after an outage: none of it goes to
compressed chunks."""
_QUERIES = named_queries("timescale.sql")
# The extension belongs to the database, not to a schema: any number that no other program locks there.
_ADVISORY_LOCK_KEY: Final = 0x5C4EF


TimescaleMode = Literal["absent", "compressed", "uncompressed", "unknown"]
"""absent: plain tables. uncompressed: the licence is `apache`, or the version cannot compress them in our layout.
unknown: the database does not answer."""


@dataclass(frozen=True, slots=True)
class _Hypertable:
    """A batch of a compressed chunk holds up to 1,000 rows of one value of `segment_by`, in order of `order_by`."""

    table: str
    segment_by: tuple[str, ...]
    order_by: tuple[str, ...]
    chunk: str = CHUNK_LENGTH


_HYPERTABLES: Final = (
    _Hypertable("candles_1m", ("symbol",), ("time",)),
    # segmented by timeframe too, a day would be batches of 96, 24, 6, 3 and 1 rows
    _Hypertable("metrics_calculated", ("symbol",), ("timeframe", "time")),
    *(_Hypertable(bars.name, ("symbol",), ("time",), bars.chunk) for bars in BAR_TABLES),
)


async def timescale_mode(connection: AsyncConnection) -> TimescaleMode:
    """Return the mode of our schema. Raises psycopg.Error."""
    installed = await (await connection.execute(_QUERIES["is_installed"])).fetchone()
    row = await (await connection.execute(_QUERIES["mode"])).fetchone() if installed == (True,) else None
    if row is None or not row[0]:
        return "absent"
    return "compressed" if row[1] else "uncompressed"


def use_timescale(connection: psycopg.Connection[Any], schema: str) -> None:
    """Make hypertables of candles, bars and metrics in our schema, if the server has TimescaleDB and the role may.

    Needs an autocommit connection without a statement timeout. Any number of processes may call it at once: one works,
    the others wait. Raises psycopg.Error.
    """
    found = connection.execute(_QUERIES["schema_of_functions"]).fetchone()
    if found is None or found[0] is None:
        return
    with _lock(connection):
        try:
            connection.execute(_QUERIES["install"])
        except psycopg.errors.InsufficientPrivilege as error:
            log.warning("timescale_not_used", error=str(error), advice="have an administrator create it")
            return
        try:
            for hypertable in _HYPERTABLES:
                _set_up(connection, found[0], hypertable)
            _make_retention(connection, found[0], schema)
        except psycopg.errors.InsufficientPrivilege as error:
            log.warning(
                "timescale_not_set_up",
                error=str(error),
                advice="run `screener migrate` as the schema's owner",
            )


@contextmanager
def _lock(connection: psycopg.Connection[Any]) -> Iterator[None]:
    connection.execute("SELECT pg_advisory_lock(%s)", (_ADVISORY_LOCK_KEY,))
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", (_ADVISORY_LOCK_KEY,))


def _set_up(connection: psycopg.Connection[Any], timescale: str, hypertable: _Hypertable) -> None:
    def run(*steps: str) -> None:
        for step in steps:
            connection.execute(_statement(step, timescale, hypertable))

    with connection.transaction():
        run("make_hypertable", "set_chunk_length")
    wanted = {
        "table": hypertable.table,
        "columns": [*hypertable.segment_by, *hypertable.order_by],
        "compress_after": COMPRESS_AFTER,
    }
    try:
        with connection.transaction():
            run("forget_retention_policy")
            if connection.execute(_QUERIES["is_compressed"], wanted).fetchone() != (True,):
                run("forget_compression_policy", "allow_compression", "compress_later")
    except psycopg.errors.FeatureNotSupported as error:
        # another licence than Timescale's own, or a version that cannot change the layout of compressed chunks
        log.warning("timescale_without_compression", table=hypertable.table, error=str(error))


def _make_retention(connection: psycopg.Connection[Any], timescale: str, schema: str) -> None:
    with connection.transaction():
        candles, metrics, *bars = (
            sql.Literal(sql.Identifier(schema, one.table).as_string()) for one in _HYPERTABLES
        )
        for function in ("make_retention", "make_bars_retention"):
            statement = sql.SQL(_QUERIES[function]).format(
                timescale=sql.Identifier(timescale),
                schema=sql.Identifier(schema),
                candles=candles,
                metrics=metrics,
                bars=sql.SQL(", ").join(bars),
            )
            connection.execute(statement)
        connection.execute(_QUERIES["keep_retention_to_the_sinks"])
        connection.execute(_QUERIES["keep_bars_retention_to_the_sinks"])


def _statement(step: str, timescale: str, hypertable: _Hypertable) -> sql.Composed:
    return sql.SQL(_QUERIES[step]).format(
        timescale=sql.Identifier(timescale),
        table=sql.Identifier(hypertable.table),
        table_text=sql.Literal(hypertable.table),
        segment_by=sql.Literal(", ".join(hypertable.segment_by)),
        order_by=sql.Literal(", ".join(hypertable.order_by)),
        chunk=sql.Literal(hypertable.chunk),
        compress_after=sql.Literal(COMPRESS_AFTER),
    )
