"""The tables of a namespace's schema, as COPY writes them, all of one moment.

Plain COPY needs no program beside this one, works on hypertables as on tables, and takes the rows into a schema that
the migrations of this version have made.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg
from psycopg import sql

from app.database.connection import connection_url, unreachable
from app.database.migrate import MIGRATION_TABLE, migrate
from app.errors import BackupUnusable, RestoreRefused
from app.settings import Settings

_TABLES: Final = """
    SELECT c.relname FROM pg_class c WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind IN ('r', 'p')
    AND NOT c.relispartition ORDER BY c.relname
"""
# Those of yoyo are made by the migrations themselves.
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
_SEQUENCE_FILE: Final = "sequences.json"
_CHUNK_BYTES: Final = 256 * 1024

Connection = psycopg.Connection[Any]


def dump(settings: Settings, directory: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Writes every table to `directory`/TABLE.copy.gz; gives the rows of each and the migrations applied.

    Raises BackupUnusable if the schema was never migrated, ServerUnreachable if the database does not answer.
    """
    schema = settings.database_schema
    try:
        with psycopg.connect(connection_url(settings, statement_timeout_ms=0)) as connection:
            # one moment for all tables, while rows go on coming
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            applied = applied_migrations(connection, schema)
            if not applied:
                raise BackupUnusable(
                    f"the database schema {schema!r} holds no screener: run `screener migrate` first"
                )
            rows = {
                table: _dump_table(connection, schema, table, directory)
                for table in tables(connection, schema)
            }
            values: dict[str, int] = dict(connection.execute(_SEQUENCES, (schema,)).fetchall())
            (directory / _SEQUENCE_FILE).write_bytes(orjson.dumps(values))
            return rows, applied
    except psycopg.OperationalError as error:
        raise unreachable(settings, error) from error


def restore(settings: Settings, directory: Path, rows: dict[str, int], applied: tuple[str, ...]) -> None:
    """Migrates the schema, then fills its tables in one transaction: all rows, or none.

    Raises RestoreRefused if a table has rows already or the backup is of a newer schema, ServerUnreachable if the
    database does not answer.
    """
    schema = settings.database_schema
    migrate(settings)
    try:
        with psycopg.connect(connection_url(settings, statement_timeout_ms=0)) as connection:
            newer = sorted(set(applied) - set(applied_migrations(connection, schema)))
            if newer:
                raise RestoreRefused(
                    f"the backup is of a newer schema (it has {', '.join(newer)}): restore it with that version"
                )
            _empty(connection, schema, rows)
            for table in _parents_first(connection, schema, rows):
                _fill(connection, schema, table, directory)
            for name, value in orjson.loads((directory / _SEQUENCE_FILE).read_bytes()).items():
                connection.execute("SELECT setval(to_regclass(%s), %s)", (_qualified(schema, name), value))
    except psycopg.OperationalError as error:
        raise unreachable(settings, error) from error


def refuse_if_filled(settings: Settings) -> None:
    """Raises RestoreRefused if the schema holds candles, metrics or alerts."""
    schema = settings.database_schema
    try:
        with psycopg.connect(connection_url(settings)) as connection:
            for table in ("candles_1m", "metrics_calculated", "alert_history"):
                if connection.execute("SELECT to_regclass(%s)", (_qualified(schema, table),)).fetchone() == (
                    None,
                ):
                    continue
                query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(schema, table))
                if connection.execute(query).fetchone() == (True,):
                    raise RestoreRefused(
                        f"the table {table} of schema {schema!r} has rows: restore into an empty database, or give "
                        "--overwrite to replace what is there"
                    )
    except psycopg.OperationalError as error:
        raise unreachable(settings, error) from error


def applied_migrations(connection: Connection, schema: str) -> tuple[str, ...]:
    """Names, sorted; none for a schema without a screener."""
    if connection.execute("SELECT to_regclass(%s)", (_qualified(schema, MIGRATION_TABLE),)).fetchone() == (
        None,
    ):
        return ()
    query = sql.SQL("SELECT migration_id FROM {} ORDER BY 1").format(sql.Identifier(schema, MIGRATION_TABLE))
    return tuple(row[0] for row in connection.execute(query))


def tables(connection: Connection, schema: str) -> list[str]:
    """Those that hold data, by name."""
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
    """What the migrations brought along, and with --overwrite all that was there."""
    listed = sql.SQL(", ").join(sql.Identifier(schema, name) for name in names)
    connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(listed))


def _fill(connection: Connection, schema: str, table: str, directory: Path) -> None:
    # columns in the order of this schema; those of later migrations come last and take their defaults
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
    """A table after all that it refers to, so that foreign keys hold at every row."""
    needs: dict[str, set[str]] = {name: set() for name in names}
    for child, parent in connection.execute(_PARENTS, (schema,)):
        if child in needs and parent in needs and child != parent:
            needs[child].add(parent)
    ordered: list[str] = []
    while needs:
        free = sorted(name for name, parents in needs.items() if parents <= set(ordered))
        if not free:
            raise BackupUnusable(f"the tables {', '.join(sorted(needs))} refer to each other in a circle")
        ordered += free
        needs = {name: parents for name, parents in needs.items() if name not in free}
    return ordered


def _qualified(schema: str, name: str) -> str:
    return sql.Identifier(schema, name).as_string(None)
