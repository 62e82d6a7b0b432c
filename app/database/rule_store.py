"""The table `alert_rules`: the active rules, changed at run time over the API, by command, or by plain SQL.

A rule stored here is a `Rule`, so it compiles. SQL can store an invalid one: readers get its fault beside the
valid rules, which stay usable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

from psycopg import AsyncConnection
from psycopg.rows import class_row

from app.database.named_queries import named_queries
from app.errors import RuleError
from app.rules.evaluation.cost import VALUES_MAX, check_cost
from app.rules.files import MAX_RULES, check_unique, rule_from_mapping
from app.rules.rule import Rule, shown

QUERIES = named_queries("rules.sql")


class RuleRow(TypedDict):
    """A stored rule as `rule_from_mapping` reads it; plain SQL may have written it, so it may be invalid."""

    rule_type: str
    expression: str
    severity: str
    cooldown_s: int
    description: str
    version: int
    enabled: bool
    mode: str | None
    symbols: list[str] | None
    hold_s: int
    shadow: bool


@dataclass(frozen=True, slots=True)
class StoredRules:
    """rules: the valid ones, by rule_type. refused: rule_type -> the fault of each other rule."""

    rules: tuple[Rule, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome for the rules of a file; each rule_type is in one of the four lists."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]


class ConnectionSource(Protocol):
    """A pool, or one connection lent repeatedly."""

    def connection(self) -> AbstractAsyncContextManager[AsyncConnection]: ...


class RuleStore:
    """Reads and writes rules over the caller's connections. Every method raises psycopg.Error if the database fails."""

    def __init__(self, connections: ConnectionSource, values_max: int = VALUES_MAX) -> None:
        """values_max: see `app.rules.evaluation.cost`."""
        self._connections = connections
        self._values_max = values_max

    async def all(self) -> list[Rule]:
        """Return every rule that compiles, enabled or not, by rule_type."""
        return list((await self.load()).rules)

    async def load(self) -> StoredRules:
        """Return every rule, and the fault of each that does not compile."""
        async with self._connections.connection() as connection:
            return stored_rules(await read_rules(connection))

    async def get(self, rule_type: str) -> Rule | None:
        """Return the rule of this name; None without one. Raises RuleError if it does not compile."""
        async with self._connections.connection() as connection:
            found = await _rows(connection, "rule", {"rule_type": _storable(rule_type)})
        return rule_from_mapping(found[0]) if found else None

    async def put(self, rule: Rule) -> Rule:
        """Add the rule, or replace the rule of its name; return it as stored.

        The stored version never decreases; it increases by one if expression, mode or hold change under the same
        version. Raises RuleError if there are too many rules, or if they remember too much.
        """
        async with self._writing() as connection:
            stored = await _put(connection, rule)
            await self._check(connection)
        return stored

    async def apply(self, rules: Sequence[Rule], prune: bool = False, dry_run: bool = False) -> Applied:
        """Store all rules or, if one is invalid, none of them. prune: remove every other rule.

        dry_run: report the changes without making them. Raises RuleError if two rules have the same name, if there
        would be too many rules, or if they would remember too much.
        """
        check_unique(rules)
        async with self._writing(dry_run) as connection:
            await connection.execute(QUERIES["lock_rules"])
            before = {row["rule_type"]: row for row in await read_rules(connection)}
            for rule in rules:
                await _put(connection, rule)
            if prune:
                kept = [rule.rule_type for rule in rules]
                await connection.execute(QUERIES["delete_other_rules"], {"kept": kept})
            await self._check(connection)
            after = {row["rule_type"]: row for row in await read_rules(connection)}
        return _applied(before, after, [rule.rule_type for rule in rules])

    async def enable(self, rule_type: str, enabled: bool = True) -> bool:
        """Switch a rule on or off; False if no rule has this name. Raises RuleError if the rules then remember too
        much."""
        async with self._writing() as connection:
            parameters = {"rule_type": _storable(rule_type), "enabled": enabled}
            found = (await connection.execute(QUERIES["enable_rule"], parameters)).rowcount > 0
            if found and enabled:
                await self._check(connection)
            return found

    async def delete(self, rule_type: str) -> bool:
        """Delete a rule; False if no rule has this name. A shipped rule does not come back by itself."""
        async with self._writing() as connection:
            parameters = {"rule_type": _storable(rule_type)}
            return (await connection.execute(QUERIES["delete_rule"], parameters)).rowcount > 0

    async def _check(self, connection: AsyncConnection) -> None:
        row = await (await connection.execute(QUERIES["count_rules"])).fetchone()
        if row is not None and row[0] > MAX_RULES:
            raise RuleError(f"{row[0]} rules exceed the limit of {MAX_RULES}; delete some")
        rules = stored_rules(await read_rules(connection)).rules
        await asyncio.to_thread(check_cost, rules, self._values_max)

    @asynccontextmanager
    async def _writing(self, dry_run: bool = False) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction whose commit survives a crash, even on a server set up to answer
        earlier."""
        async with (
            self._connections.connection() as connection,
            connection.transaction(force_rollback=dry_run),
        ):
            await connection.execute(QUERIES["commit_durably"])
            yield connection


async def read_rules(connection: AsyncConnection) -> list[RuleRow]:
    """Return all rows of `alert_rules`, valid or not, by rule_type."""
    return await _rows(connection, "all_rules")


def stored_rules(rows: Sequence[RuleRow]) -> StoredRules:
    """Return the rules of the valid rows, and the faults of the other rows."""
    rules: list[Rule] = []
    refused: dict[str, str] = {}
    for row in rows:
        try:
            rules.append(rule_from_mapping(row))
        except RuleError as error:
            refused[shown(row["rule_type"])] = str(error)
    return StoredRules(tuple(rules), refused)


def rule_parameters(rule: Rule) -> RuleRow:
    """Return the rule as parameters of the statements."""
    return {
        "rule_type": rule.rule_type,
        "expression": rule.expression,
        "severity": rule.severity,
        "cooldown_s": rule.cooldown_s,
        "description": rule.description,
        "version": rule.version,
        "enabled": rule.enabled,
        "mode": rule.mode,
        "symbols": None if rule.symbols is None else list(rule.symbols),
        "hold_s": rule.hold_s,
        "shadow": rule.shadow,
    }


async def _rows(
    connection: AsyncConnection, query: str, parameters: Mapping[str, Any] | None = None
) -> list[RuleRow]:
    async with connection.cursor(row_factory=class_row(RuleRow)) as cursor:
        await cursor.execute(QUERIES[query], parameters)
        return await cursor.fetchall()


async def _put(connection: AsyncConnection, rule: Rule) -> Rule:
    return rule_from_mapping((await _rows(connection, "put_rule", rule_parameters(rule)))[0])


def _storable(rule_type: str) -> str:
    """Return the name as text that PostgreSQL accepts; a name that this changes belongs to no rule."""
    return rule_type.replace("\0", "?").encode("utf-8", "replace").decode()


def _applied(before: Mapping[str, RuleRow], after: Mapping[str, RuleRow], given: Sequence[str]) -> Applied:
    return Applied(
        added=tuple(name for name in given if name not in before),
        changed=tuple(name for name in given if name in before and before[name] != after[name]),
        unchanged=tuple(name for name in given if before.get(name) == after[name]),
        removed=tuple(name for name in before if name not in after),
    )
