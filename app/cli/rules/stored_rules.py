"""The rules that a command reads from the database, or changes there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import click
from psycopg import AsyncConnection

from app.cli.rules.rule_files import rules_of
from app.cli.servers import settings_here
from app.database.connection import connect, database_faults
from app.database.rule_store import RuleStore
from app.process.interrupts import interruptible
from app.rules.evaluation.cost import VALUES_MAX
from app.rules.rule import Rule
from app.settings.access import PostgresAccess

T = TypeVar("T")


def rules_for_stored_candles(path: Path | None) -> tuple[Rule, ...]:
    """Return the rules of the file, or without a file the rules of the candles' database.

    Invalid stored rules are reported and left out. Raises ServerUnreachable.
    """
    if path is not None:
        return rules_of(path)
    stored = with_rule_store(settings_here().postgres(), RuleStore.load)
    for fault in stored.refused.values():
        click.echo(f"left out: {fault}", err=True)
    return stored.rules


def with_rule_store(
    postgres: PostgresAccess, use: Callable[[RuleStore], Awaitable[T]], values_max: int = VALUES_MAX
) -> T:
    """Return the result of `use`. values_max: see `app.rules.evaluation.cost`.

    Raises ServerUnreachable, and SchemaTooOld if the database was never migrated.
    """

    async def used() -> T:
        async with await connect(postgres) as connection:
            return await use(RuleStore(_OneConnection(connection), values_max))

    with database_faults(postgres):
        return asyncio.run(interruptible(used()))


class _OneConnection:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        yield self._connection
