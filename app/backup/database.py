"""Backup of the tables of a namespace's schema, as COPY writes them, all as of one moment.

Plain COPY needs no other program, works on hypertables as on tables, and loads the rows into a schema made by the
migrations of this version.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg
from psycopg import sql

from app.database.in_thread import in_thread
from app.database.migrate import MIGRATION_TABLE, migrate_in_thread
from app.database.named_queries import named_queries
from app.errors import BackupUnusable, RestoreRefused
from app.settings.access import PostgresAccess

_TABLES: Final = """
    SELECT c.relname FROM pg_class c WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind IN ('r', 'p')
    AND NOT c.relispartition ORDER BY c.relname
"""
# yoyo's own tables are made by the migrations.
_OF_MIGRATIONS: Final = ("_yoyo", "yoyo_")
_COLUMNS: Final = """
    SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
    AND attgenerated = '' ORDER BY attnum
"""
_SEQUENCES: Final = (
    "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = %s AND last_value IS NOT NULL"
)
_PARENTS: Final = """
    SELECT child.relname, parent.relname FROM pg_constraint
    JOIN pg_class child ON child.oid = conrelid JOIN pg_class parent ON parent.oid = confrelid
    WHERE contype = 'f' AND child.relnamespace = to_regnamespace(%s)
"""
# Made by a migration; older backups do not have it.
_SYMBOLS: Final = "candle_symbols"
_SEQUENCE_FILE: Final = "sequences.json"
_CHUNK_BYTES: Final = 256 * 1024

Connection = psycopg.Connection[Any]


async def dump(postgres: PostgresAccess, directory: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Write every table to `directory`/TABLE.copy.gz; return the rows of each and the migrations applied.

    Raises BackupUnusable if the schema was never migrated, ServerUnreachable if the database does not answer.
    """
    return await in_thread(postgres, lambda connection: _dump(connection, postgres.schema, directory))


def _dump(connection: Connection, schema: str, directory: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    # one moment for all tables, while new rows come
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    applied = applied_migrations(connection, schema)
    if not applied:
        raise BackupUnusable(
            f"the database schema {schema!r} has no tables of the screener: run `screener migrate` first"
        )
    rows = {table: _dump_table(connection, schema, table, directory) for table in tables(connection, schema)}
    values: dict[str, int] = dict(connection.execute(_SEQUENCES, (schema,)).fetchall())
    (directory / _SEQUENCE_FILE).write_bytes(orjson.dumps(values))
    return rows, applied


async def restore(
    postgres: PostgresAccess, directory: Path, rows: dict[str, int], applied: tuple[str, ...]
) -> None:
    """Migrate the schema, then fill its tables in one transaction: all rows, or none.

    Raises RestoreRefused if a table has rows already or the backup is of a newer schema, ServerUnreachable if the
    database does not answer.
    """
    await migrate_in_thread(postgres)
    await in_thread(
        postgres, lambda connection: _restore(connection, postgres.schema, directory, rows, applied)
    )


def _restore(
    connection: Connection, schema: str, directory: Path, rows: dict[str, int], applied: tuple[str, ...]
) -> None:
    newer = sorted(set(applied) - set(applied_migrations(connection, schema)))
    if newer:
        raise RestoreRefused(
            f"the backup is of a newer schema (it has {', '.join(newer)}): restore it with its version"
        )
    _empty(connection, schema, rows)
    for table in _parents_first(connection, schema, rows):
        _fill(connection, schema, table, directory)
    if _SYMBOLS not in rows:
        connection.execute(named_queries("writes.sql")["find_symbols"])
    for name, value in orjson.loads((directory / _SEQUENCE_FILE).read_bytes()).items():
        connection.execute("SELECT setval(to_regclass(%s), %s)", (_qualified(schema, name), value))


async def refuse_if_filled(postgres: PostgresAccess) -> None:
    """Check that the schema is empty. Raises RestoreRefused if it holds candles, metrics or alerts."""
    await in_thread(postgres, lambda connection: _refuse_if_filled(connection, postgres.schema))


def _refuse_if_filled(connection: Connection, schema: str) -> None:
    for table in ("candles_1m", "metrics_calculated", "alert_history"):
        if connection.execute("SELECT to_regclass(%s)", (_qualified(schema, table),)).fetchone() == (None,):
            continue
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(schema, table))
        if connection.execute(query).fetchone() == (True,):
            raise RestoreRefused(
                f"the table {table} of schema {schema!r} has rows: restore into an empty database, or give "
                "--overwrite to replace what is there"
            )


def applied_migrations(connection: Connection, schema: str) -> tuple[str, ...]:
    """Return the names of the applied migrations, sorted; empty for a schema without a screener."""
    if connection.execute("SELECT to_regclass(%s)", (_qualified(schema, MIGRATION_TABLE),)).fetchone() == (
        None,
    ):
        return ()
    query = sql.SQL("SELECT migration_id FROM {} ORDER BY 1").format(sql.Identifier(schema, MIGRATION_TABLE))
    return tuple(row[0] for row in connection.execute(query))


def tables(connection: Connection, schema: str) -> list[str]:
    """Return the tables with data, by name."""
    found = [row[0] for row in connection.execute(_TABLES, (schema,))]
    return [name for name in found if name != MIGRATION_TABLE and not name.startswith(_OF_MIGRATIONS)]


def _dump_table(connection: Connection, schema: str, table: str, directory: Path) -> int:
    columns = _columns(connection, schema, table)
    query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(schema, table)
    )
    (directory / f"{table}.columns").write_text("\n".join(columns))
    with (
        gzip.open(directory / f"{table}.copy.gz", "wb", compresslevel=3) as file,
        connection.cursor() as cursor,
    ):
        with cursor.copy(query) as copy:
            for data in copy:
                file.write(data)
        return cursor.rowcount


def _empty(connection: Connection, schema: str, names: Iterable[str]) -> None:
    """Delete the rows that the migrations inserted, and with --overwrite all rows."""
    listed = sql.SQL(", ").join(sql.Identifier(schema, name) for name in names)
    connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(listed))


def _fill(connection: Connection, schema: str, table: str, directory: Path) -> None:
    # columns in the order of this schema; later migrations' columns come last and take their defaults
    header = (directory / f"{table}.columns").read_text().split()
    query = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(schema, table), sql.SQL(", ").join(map(sql.Identifier, header))
    )
    with (
        gzip.open(directory / f"{table}.copy.gz", "rb") as file,
        connection.cursor() as cursor,
        cursor.copy(query) as copy,
    ):
        while data := file.read(_CHUNK_BYTES):
            copy.write(data)


def _columns(connection: Connection, schema: str, table: str) -> list[str]:
    return [row[0] for row in connection.execute(_COLUMNS, (_qualified(schema, table),))]


def _parents_first(connection: Connection, schema: str, names: Iterable[str]) -> list[str]:
    """Return the tables, each after the tables that it refers to, so that foreign keys hold at every row."""
    needs: dict[str, set[str]] = {name: set() for name in names}
    for child, parent in connection.execute(_PARENTS, (schema,)):
        if child in needs and parent in needs and child != parent:
            needs[child].add(parent)
    ordered: list[str] = []
    while needs:
        free = sorted(name for name, parents in needs.items() if parents <= set(ordered))
        if not free:
            raise BackupUnusable(f"the tables {', '.join(sorted(needs))} have circular references")
        ordered += free
        needs = {name: parents for name, parents in needs.items() if name not in free}
    return ordered


def _qualified(schema: str, name: str) -> str:
    return sql.Identifier(schema, name).as_string(None)
