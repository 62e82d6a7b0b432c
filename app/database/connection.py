"""Connections to PostgreSQL: schema, timeouts, and the pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from app.database.unreadable import ADAPTERS
from app.errors import SchemaTooOld, ServerUnreachable, SettingsError
from app.settings.access import PostgresAccess
from app.telemetry import DatabaseMetrics

CONNECT_TIMEOUT_S = 5
# A peer that vanished without closing is noticed after this long, instead of the kernel's quarter of an hour.
DEAD_PEER_TIMEOUT_MS = 15_000
QUERY_TIMEOUT_MS = 10_000
WRITE_TIMEOUT_MS = 60_000
_DECOMPRESSION_LIMIT: Final = "timescaledb.max_tuples_decompressed_per_dml_transaction"
# The default is 100,000. A late row decompresses a batch of up to 1,000 rows: this is enough for a minute of 2,000
# symbols, and ends within WRITE_TIMEOUT_MS. Beyond it TimescaleDB rejects the write, and the sink splits its batch.
_MOST_DECOMPRESSED: Final = 2_000_000
# The pool gives one reconnection this long; the next request for a connection starts another.
RECONNECT_TIMEOUT_S = 3.0

Pool = AsyncConnectionPool[AsyncConnection]


def connection_url(postgres: PostgresAccess, statement_timeout_ms: int = QUERY_TIMEOUT_MS) -> str:
    """Return the connection string for psycopg, with our schema as the only search path; it may hold a password.

    `statement_timeout_ms` 0 means no limit. Raises SettingsError if the URL is invalid.
    """
    try:
        given = conninfo_to_dict(postgres.url)
    except psycopg.ProgrammingError as error:
        raise SettingsError(f"SCREENER_POSTGRES_URL is not a PostgreSQL URL: {error}") from error
    ours = {
        "search_path": postgres.schema,
        "statement_timeout": statement_timeout_ms,
        "timezone": "UTC",
    }
    options = [str(given.get("options") or ""), *(f"-c {name}={value}" for name, value in ours.items())]
    return make_conninfo(
        postgres.url,
        options=" ".join(options).strip(),
        connect_timeout=given.get("connect_timeout") or CONNECT_TIMEOUT_S,
        tcp_user_timeout=given.get("tcp_user_timeout") or DEAD_PEER_TIMEOUT_MS,
        application_name=given.get("application_name") or "screener",
    )


def server_address(postgres: PostgresAccess) -> str:
    """Return host:port of the database for messages, without user and password."""
    given = conninfo_to_dict(connection_url(postgres))
    return f"{given.get('host') or 'localhost'}:{given.get('port') or 5432}"


async def connect(postgres: PostgresAccess, statement_timeout_ms: int = QUERY_TIMEOUT_MS) -> AsyncConnection:
    """Return one autocommit connection that reads like a pool's. Raises psycopg.Error, SettingsError."""
    url = connection_url(postgres, statement_timeout_ms)
    return await AsyncConnection.connect(url, autocommit=True, context=ADAPTERS)


async def open_pool(
    postgres: PostgresAccess,
    *,
    max_size: int = 4,
    statement_timeout_ms: int = QUERY_TIMEOUT_MS,
    durable: bool = False,
    open_timeout_s: float = 10.0,
    wait_s: float = 30.0,
) -> Pool:
    """Return an open pool of autocommit connections; the caller closes it (it is an async context manager too).

    wait_s: how long a request waits for one of the connections, unless it says otherwise itself.
    durable: for writes. A commit returns when it would survive a crash, even on a server set up to answer earlier, and
    late rows may reach compressed chunks of TimescaleDB.
    Statements are not prepared on the server: the filters of our queries need a plan for their values.
    Raises ServerUnreachable if no connection can be made within `open_timeout_s`.
    """
    pool: Pool = AsyncConnectionPool(
        connection_url(postgres, statement_timeout_ms),
        connection_class=AsyncConnection,
        kwargs={"autocommit": True, "prepare_threshold": None, "context": ADAPTERS},
        min_size=1,
        max_size=max_size,
        timeout=wait_s,
        configure=_prepare_to_write if durable else None,
        reconnect_timeout=RECONNECT_TIMEOUT_S,
        name="screener",
        open=False,
    )
    try:
        await pool.open(wait=True, timeout=open_timeout_s)
    except psycopg.OperationalError as error:
        await pool.close()
        raise unreachable(postgres, error) from error
    return pool


def show_pool(pool: Pool, metrics: DatabaseMetrics) -> None:
    """Let the gauges of `metrics` read the pool whenever Prometheus asks."""

    def reads(name: str) -> Callable[[], float]:
        return lambda: float(pool.get_stats().get(name, 0))

    def in_use() -> float:
        stats = pool.get_stats()
        return float(stats.get("pool_size", 0) - stats.get("pool_available", 0))

    metrics.pool_size.labels("max").set(pool.max_size)
    metrics.pool_size.labels("open").set_function(reads("pool_size"))
    metrics.pool_size.labels("in_use").set_function(in_use)
    metrics.pool_size.labels("waiting").set_function(reads("requests_waiting"))


async def _prepare_to_write(connection: AsyncConnection) -> None:
    await connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) "
        "WHERE current_setting('synchronous_commit') = 'off'"
    )
    await connection.execute(
        "SELECT set_config(%(name)s, %(most)s, false) WHERE current_setting(%(name)s, true) IS NOT NULL",
        {"name": _DECOMPRESSION_LIMIT, "most": str(_MOST_DECOMPRESSED)},
    )


def unreachable(postgres: PostgresAccess, error: Exception) -> ServerUnreachable:
    """Return the error to raise when the database does not answer."""
    return ServerUnreachable(
        f"PostgreSQL does not answer at {server_address(postgres)}: {error}; "
        "start it, or correct SCREENER_POSTGRES_URL"
    )


@contextmanager
def database_faults(postgres: PostgresAccess) -> Iterator[None]:
    """Turn errors of psycopg within into ServerUnreachable, or SchemaTooOld if the database was never migrated."""
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise SchemaTooOld(
            f"the database schema {postgres.schema!r} has no tables of the screener: run `screener migrate`, or "
            "correct SCREENER_POSTGRES_URL and SCREENER_NAMESPACE"
        ) from error
    except psycopg.OperationalError as error:
        raise unreachable(postgres, error) from error


WRITTEN_BY: Final = {
    "sinks": "INSERT INTO candles_1m (time, symbol, open, high, low, close, volume, quote_volume, trades) "
    "VALUES (now(), gen_random_uuid()::text, 1, 1, 1, 1, 0, 0, 0)",
    "webhooks": "INSERT INTO webhook_alerts (alert_id, seq, alert, kept_at) "
    "VALUES (gen_random_uuid(), 0, '{}', now())",
    "sidecar": "INSERT INTO user_settings (user_id) VALUES (gen_random_uuid()::text)",
}
"""Role -> a statement that writes a row to a table that the role has the right to write."""


async def try_write(connection: AsyncConnection, role: str) -> None:
    """Write the role's row of WRITTEN_BY and roll it back. It fails on a standby, a full disk or a missing right.

    Raises psycopg.Error.
    """
    async with connection.transaction(force_rollback=True):
        await connection.execute(WRITTEN_BY[role])
