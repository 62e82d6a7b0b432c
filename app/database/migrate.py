"""Brings the database to the version of this code, and checks that it is there.

`screener migrate`, `screener up`, a replay and a restore bring it there, as the schema's owner; roles only check.
yoyo-migrations reads the numbered SQL files, knows which are applied, and records them; three things
differ from its command. A PostgreSQL advisory lock replaces its lock table, whose row would outlive a
killed process. All migrations and their records, and the shipped rules that come with them, are one
transaction, so that a crash leaves no half-done migration. And the applied migrations are compared
with the known ones: an unknown one was made by a newer screener, whose tables this code must not touch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from yoyo import read_migrations  # type: ignore[import-untyped]  # reason: it has no types
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend  # type: ignore[import-untyped]

from app.database.connection import QUERY_TIMEOUT_MS, connection_url, unreachable
from app.database.in_thread import in_thread
from app.database.rule_seed import is_seeded, seed_rules
from app.database.timescale import use_timescale
from app.errors import SchemaTooNew, SchemaTooOld
from app.rules.files import shipped_rules
from app.settings.access import PostgresAccess

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_TABLE = "schema_migrations"
# Any number that no other program locks in the same database; the schema's hash is the second key.
_ADVISORY_LOCK_KEY = 0x5C4EE


def migrate(postgres: PostgresAccess, migrations: Path = MIGRATIONS) -> list[str]:
    """Apply the missing migrations within our schema and return their names; blocking.

    Our own migrations bring the shipped rules along; see `app.database.rule_seed`. Their tables become hypertables
    where the server has TimescaleDB; see `app.database.timescale`.
    Any number of processes may call it at once: one works, the others wait. With no pending migration it only reads.
    Raises SchemaTooNew if the database has migrations this code does not know, SchemaTooOld if some are missing that
    this database role may not apply, ServerUnreachable if the database does not answer.
    """
    try:
        with psycopg.connect(
            connection_url(postgres, statement_timeout_ms=0), autocommit=True, prepare_threshold=None
        ) as connection:
            return _migrate_on(connection, postgres.schema, migrations)
    except psycopg.OperationalError as error:
        raise unreachable(postgres, error) from error


async def migrate_in_thread(postgres: PostgresAccess) -> list[str]:
    """Do what `migrate` does, in a thread. After a cancellation, no migration has been applied."""
    return await in_thread(
        postgres, lambda connection: _migrate_on(connection, postgres.schema, MIGRATIONS), autocommit=True
    )


def _migrate_on(connection: psycopg.Connection[Any], schema: str, migrations: Path) -> list[str]:
    try:
        applied = _migrate_if_needed(connection, schema, migrations)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaTooOld(
            f"the database schema {schema!r} is missing or out of date, and the database role "
            f"{connection.info.user!r} may not change it ({error}): run `screener migrate` as the schema's "
            "owner, and grant this role the rights in deploy/DATABASE.md"
        ) from error
    if migrations == MIGRATIONS:
        use_timescale(connection, schema)
    return applied


async def check_schema(postgres: PostgresAccess) -> None:
    """Return if all migrations of this code are applied, and no others.

    Raises SchemaTooNew, SchemaTooOld, ServerUnreachable if the database does not answer.
    """
    schema = postgres.schema
    try:
        migrated = await in_thread(
            postgres,
            lambda connection: _is_migrated(connection, schema, MIGRATIONS),
            autocommit=True,
            statement_timeout_ms=QUERY_TIMEOUT_MS,
        )
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaTooOld(
            f"this database role may not read the schema {schema!r} ({error}): grant it the rights in "
            "deploy/DATABASE.md"
        ) from error
    if not migrated:
        raise SchemaTooOld(
            f"the database schema {schema!r} is missing or out of date: run `screener migrate` as its owner"
        )


def _migrate_if_needed(connection: psycopg.Connection[Any], schema: str, migrations: Path) -> list[str]:
    if _is_migrated(connection, schema, migrations) and (
        migrations != MIGRATIONS or is_seeded(connection, shipped_rules())
    ):
        return []
    return _migrate(connection, schema, migrations)


def _is_migrated(connection: psycopg.Connection[Any], schema: str, migrations: Path) -> bool:
    table = sql.Identifier(schema, MIGRATION_TABLE)
    if connection.execute("SELECT to_regclass(%s)", (table.as_string(),)).fetchone() == (None,):
        return False
    known = {migration.id for migration in read_migrations(str(migrations))}
    _refuse_newer_schema(connection, known, schema)
    applied = {row[0] for row in connection.execute(sql.SQL("SELECT migration_id FROM {}").format(table))}
    return applied == known


def _migrate(connection: psycopg.Connection[Any], schema: str, migrations: Path) -> list[str]:
    lock = (_ADVISORY_LOCK_KEY, schema)
    connection.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", lock)
    try:
        create = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}")
        if connection.execute("SELECT to_regnamespace(%s)", (schema,)).fetchone() == (None,):
            connection.execute(create.format(sql.Identifier(schema)))
        backend = _Backend(connection)
        backend.ensure_internal_schema_updated()
        known = read_migrations(str(migrations))
        _refuse_newer_schema(connection, {migration.id for migration in known}, schema)
        missing = list(backend.to_apply(known))
        with connection.transaction():
            for migration in missing:
                migration.process_steps(backend, "apply")
                backend.mark_one(migration, log=False)
            if migrations == MIGRATIONS:
                seed_rules(connection, shipped_rules())
        return [migration.id for migration in missing]
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", lock)


def _refuse_newer_schema(connection: psycopg.Connection[Any], known: set[str], schema: str) -> None:
    query = sql.SQL("SELECT migration_id FROM {}").format(sql.Identifier(MIGRATION_TABLE))
    unknown = sorted({row[0] for row in connection.execute(query)} - known)
    if unknown:
        raise SchemaTooNew(
            f"the database schema {schema!r} was migrated by a newer screener (it has {', '.join(unknown)}, "
            f"this one knows up to {max(known)}); run that newer version, or set SCREENER_NAMESPACE to use "
            "another schema"
        )


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # reason: yoyo has no types
    """yoyo's PostgreSQL backend on a connection that is already open, within our lock and transaction."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._open_connection = connection
        super().__init__(connection.info.dbname, MIGRATION_TABLE)

    def connect(self, _database: str) -> psycopg.Connection[Any]:
        return self._open_connection

    def list_tables(self, **_kwargs: Any) -> list[str]:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        return [row[0] for row in self.connection.execute(query)]

    @contextmanager
    def transaction(self, rollback_on_exit: bool = False) -> Iterator[None]:
        with self.connection.transaction():
            yield

    @contextmanager
    def lock(self, timeout: float = 10) -> Iterator[None]:
        yield
