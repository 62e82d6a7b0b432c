"""The rules a command works with: of a YAML file, of the database, or the shipped ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import click
import psycopg
from psycopg import AsyncConnection

from app.cli.settings_here import settings_here
from app.database.connection import connection_url, unreachable
from app.database.rule_store import RuleStore
from app.errors import RuleError, SchemaTooOld
from app.rules.files import load_rules
from app.rules.names import nearest
from app.rules.rule import Rule
from app.rules.shipped import shipped_rules
from app.settings import Settings

T = TypeVar("T")


def rules_of(path: Path | None) -> tuple[Rule, ...]:
    """All rules of the file, enabled or not; without a file the shipped ones. RuleError names the file."""
    if path is None:
        return shipped_rules()
    try:
        return load_rules(path.read_text(encoding="utf-8"))
    except (RuleError, UnicodeDecodeError) as error:
        raise RuleError(f"{path}: {error}") from error


def rules_for_stored_candles(path: Path | None) -> tuple[Rule, ...]:
    """As `rules_of`, but without a file those of the database that the candles are in.

    Says which of them are none. Raises ServerUnreachable.
    """
    if path is not None:
        return rules_of(path)
    stored = with_rule_store(settings_here(), RuleStore.load)
    for fault in stored.refused.values():
        click.echo(f"left out: {fault}", err=True)
    return stored.rules


def with_rule_store(settings: Settings, use: Callable[[RuleStore], Awaitable[T]]) -> T:
    """What `use` gives. Raises ServerUnreachable, and SchemaTooOld if the database was never migrated."""

    async def used() -> T:
        async with await AsyncConnection.connect(connection_url(settings), autocommit=True) as connection:
            return await use(RuleStore(_OneConnection(connection)))

    try:
        return asyncio.run(used())
    except psycopg.OperationalError as error:
        raise unreachable(settings, error) from error
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise SchemaTooOld(
            f"the database schema {settings.database_schema!r} has no rules yet: run `screener migrate`, or "
            "correct SCREENER_POSTGRES_URL and SCREENER_NAMESPACE"
        ) from error


class _OneConnection:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        yield self._connection


def rule_named(rules: Sequence[Rule], rule_type: str) -> Rule:
    """Raises RuleError with what may have been meant."""
    for rule in rules:
        if rule.rule_type == rule_type:
            return rule
    raise no_such_rule(rule_type, [rule.rule_type for rule in rules])


def no_such_rule(rule_type: str, known: Sequence[str]) -> RuleError:
    """With what may have been meant."""
    guesses = nearest(rule_type, tuple(known))
    advice = f"did you mean {guesses[0]}?" if guesses else f"there are {', '.join(known) or 'none'}"
    return RuleError(f"there is no rule {rule_type!r}; {advice}")
