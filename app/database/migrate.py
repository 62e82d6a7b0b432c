"""Brings the database schema to the version of this code.

yoyo-migrations reads the numbered SQL files, knows which are applied, and records them; three things are
done otherwise than its command does them. A PostgreSQL advisory lock takes the place of its lock table, whose
row would outlive a killed process. All migrations and their records, and the shipped rules that come with
them, are one transaction, so that a crash leaves nothing half done. And the applied migrations are compared
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

from app.database.connection import connection_url, unreachable
from app.database.rule_seed import seed_rules
from app.errors import SchemaTooNew
from app.rules.shipped import shipped_rules
from app.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_TABLE = "schema_migrations"
# Any number that no other program locks in the same database; the schema's hash is the second key.
_ADVISORY_LOCK_KEY = 0x5C4EE


def migrate(settings: Settings, migrations: Path = MIGRATIONS) -> list[str]:
    """Applies the missing migrations within the settings' schema and returns their names; blocking.

    Our own migrations bring the shipped rules along; see `app.database.rule_seed`.
    Any number of processes may call it at once: one works, the others wait. Raises SchemaTooNew if the
    database has migrations this code does not know, ServerUnreachable if it does not answer.
    """
    try:
        with psycopg.connect(connection_url(settings, statement_timeout_ms=0), autocommit=True) as connection:
            return _migrate(connection, settings.database_schema, migrations)
    except psycopg.OperationalError as error:
        raise unreachable(settings, error) from error


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
