"""How we connect to PostgreSQL: schema, timeouts, and the pool."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from app.errors import ServerUnreachable, SettingsError
from app.settings import Settings
from app.telemetry import DatabaseMetrics

CONNECT_TIMEOUT_S = 5
# A peer that vanished without closing is noticed after this long, instead of the kernel's quarter of an hour.
DEAD_PEER_TIMEOUT_MS = 15_000
QUERY_TIMEOUT_MS = 10_000
WRITE_TIMEOUT_MS = 60_000
# The pool gives one reconnection this long; the next request for a connection starts another.
RECONNECT_TIMEOUT_S = 3.0

Pool = AsyncConnectionPool[AsyncConnection]


def connection_url(settings: Settings, statement_timeout_ms: int = QUERY_TIMEOUT_MS) -> str:
    """The connection string of the settings, with our schema as the only search path; it may hold a password.

    `statement_timeout_ms` 0 means no limit. Raises SettingsError if the URL is missing or is not one.
    """
    if settings.postgres_url is None:
        raise SettingsError("SCREENER_POSTGRES_URL is not set: give the URL of a PostgreSQL database")
    url = settings.postgres_url.get_secret_value()
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise SettingsError(f"SCREENER_POSTGRES_URL is not a PostgreSQL URL: {error}") from error
    ours = {
        "search_path": settings.database_schema,
        "statement_timeout": statement_timeout_ms,
        "timezone": "UTC",
    }
    options = [str(given.get("options") or ""), *(f"-c {name}={value}" for name, value in ours.items())]
    return make_conninfo(
        url,
        options=" ".join(options).strip(),
        connect_timeout=given.get("connect_timeout") or CONNECT_TIMEOUT_S,
        tcp_user_timeout=given.get("tcp_user_timeout") or DEAD_PEER_TIMEOUT_MS,
        application_name=given.get("application_name") or "screener",
    )


def server_address(settings: Settings) -> str:
    """host:port of the database for messages, without user and password."""
    given = conninfo_to_dict(connection_url(settings))
    return f"{given.get('host') or 'localhost'}:{given.get('port') or 5432}"


async def open_pool(
    settings: Settings,
    *,
    max_size: int = 4,
    statement_timeout_ms: int = QUERY_TIMEOUT_MS,
    durable: bool = False,
    open_timeout_s: float = 10.0,
    wait_s: float = 30.0,
) -> Pool:
    """An open pool of autocommit connections; the caller closes it (it is an async context manager too).

    wait_s: how long a request waits for one of the connections, unless it says otherwise itself.
    durable: a commit returns when it would survive a crash, even on a server set up to answer earlier.
    Statements are not prepared on the server: the filters of our queries need a plan for their values.
    Raises ServerUnreachable if no connection can be made within `open_timeout_s`.
    """
    pool: Pool = AsyncConnectionPool(
        connection_url(settings, statement_timeout_ms),
        connection_class=AsyncConnection,
        kwargs={"autocommit": True, "prepare_threshold": None},
        min_size=1,
        max_size=max_size,
        timeout=wait_s,
        configure=_make_durable if durable else None,
        reconnect_timeout=RECONNECT_TIMEOUT_S,
        name="screener",
        open=False,
    )
    try:
        await pool.open(wait=True, timeout=open_timeout_s)
    except psycopg.OperationalError as error:
        await pool.close()
        raise unreachable(settings, error) from error
    return pool


def show_pool(pool: Pool, metrics: DatabaseMetrics) -> None:
    """Lets the gauges of `metrics` read the pool whenever Prometheus asks."""

    def reads(name: str) -> Callable[[], float]:
        return lambda: float(pool.get_stats().get(name, 0))

    def in_use() -> float:
        stats = pool.get_stats()
        return float(stats.get("pool_size", 0) - stats.get("pool_available", 0))

    metrics.pool_size.labels("max").set(pool.max_size)
    metrics.pool_size.labels("open").set_function(reads("pool_size"))
    metrics.pool_size.labels("in_use").set_function(in_use)
    metrics.pool_size.labels("waiting").set_function(reads("requests_waiting"))


async def _make_durable(connection: AsyncConnection) -> None:
    await connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) "
        "WHERE current_setting('synchronous_commit') = 'off'"
    )


def unreachable(settings: Settings, error: Exception) -> ServerUnreachable:
    """The error to raise when the database does not answer."""
    return ServerUnreachable(
        f"PostgreSQL does not answer at {server_address(settings)}: {error}; "
        "start it, or correct SCREENER_POSTGRES_URL"
    )
