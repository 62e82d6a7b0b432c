"""The table `alert_rules`: the rules in force, changed at run time over the API, by command, or by plain SQL.

What is put here is a `Rule`, so it compiles. SQL can put in what is not one: readers get it as a fault beside
the good rules, and it never takes those down with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from app.database.named_queries import named_queries
from app.errors import RuleError
from app.rules.files import MAX_RULES, RULE_FIELDS, check_unique, rule_from_mapping
from app.rules.rule import Rule

QUERIES = named_queries("rules.sql")

RuleRow = dict[str, Any]
"""A stored rule as `rule_from_mapping` reads it; plain SQL may have written it, so it need not be a good one."""


@dataclass(frozen=True, slots=True)
class StoredRules:
    """rules: those that compile, by rule_type. refused: rule_type -> what is wrong with the others."""

    rules: tuple[Rule, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of the rules of a file; rule_types, each in one of the four."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]


class Connections(Protocol):
    """A pool, or one connection lent out again and again."""

    def connection(self) -> AbstractAsyncContextManager[AsyncConnection]: ...


class RuleStore:
    """Rules behind connections that the caller keeps. Every method raises psycopg.Error if the database fails."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def all(self) -> list[Rule]:
        """Every rule that compiles, enabled or not, by rule_type."""
        return list((await self.load()).rules)

    async def load(self) -> StoredRules:
        """Every rule, and the fault of each that does not compile."""
        async with self._connections.connection() as connection:
            return stored_rules(await read_rules(connection))

    async def get(self, rule_type: str) -> Rule | None:
        """None if there is none of this name. Raises RuleError if it does not compile."""
        async with self._connections.connection() as connection:
            found = await _rows(connection, "rule", {"rule_type": _storable(rule_type)})
        return rule_from_mapping(found[0]) if found else None

    async def put(self, rule: Rule) -> Rule:
        """Adds the rule, or takes it for the one of its name; gives it as stored.

        The stored version is never lower than it was, and one higher if expression, mode or hold change under
        the same one. Raises RuleError if there are too many rules.
        """
        async with self._writing() as connection:
            stored = await _put(connection, rule)
            await _check_count(connection)
        return stored

    async def apply(self, rules: Sequence[Rule], prune: bool = False, dry_run: bool = False) -> Applied:
        """Puts all rules at once or, if one cannot be, none. prune: removes every other rule.

        dry_run: tells what would change and changes nothing. Raises RuleError if two have one name, or if
        there would be too many.
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
            await _check_count(connection)
            after = {row["rule_type"]: row for row in await read_rules(connection)}
        return _applied(before, after, [rule.rule_type for rule in rules])

    async def enable(self, rule_type: str, enabled: bool = True) -> bool:
        """Switches a rule on or off; False if there is none of this name."""
        async with self._writing() as connection:
            parameters = {"rule_type": _storable(rule_type), "enabled": enabled}
            return (await connection.execute(QUERIES["enable_rule"], parameters)).rowcount > 0

    async def delete(self, rule_type: str) -> bool:
        """False if there is none of this name. A shipped rule does not come back by itself."""
        async with self._writing() as connection:
            parameters = {"rule_type": _storable(rule_type)}
            return (await connection.execute(QUERIES["delete_rule"], parameters)).rowcount > 0

    @asynccontextmanager
    async def _writing(self, dry_run: bool = False) -> AsyncIterator[AsyncConnection]:
        """A transaction that survives a crash once it is answered, on a server set up to answer earlier too."""
        async with (
            self._connections.connection() as connection,
            connection.transaction(force_rollback=dry_run),
        ):
            await connection.execute(QUERIES["commit_durably"])
            yield connection


async def read_rules(connection: AsyncConnection) -> list[RuleRow]:
    """All rows of `alert_rules`, good or not, by rule_type."""
    return await _rows(connection, "all_rules")


def stored_rules(rows: Sequence[RuleRow]) -> StoredRules:
    """The rows that are rules, and why the others are none."""
    rules: list[Rule] = []
    refused: dict[str, str] = {}
    for row in rows:
        try:
            rules.append(rule_from_mapping(row))
        except RuleError as error:
            refused[str(row["rule_type"])] = str(error)
    return StoredRules(tuple(rules), refused)


def rule_parameters(rule: Rule) -> RuleRow:
    """The rule as parameters of the statements."""
    values = {name: getattr(rule, name) for name in RULE_FIELDS}
    return values | {"symbols": None if rule.symbols is None else list(rule.symbols)}


async def _rows(
    connection: AsyncConnection, query: str, parameters: Mapping[str, Any] | None = None
) -> list[RuleRow]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES[query], parameters)
        return await cursor.fetchall()


async def _put(connection: AsyncConnection, rule: Rule) -> Rule:
    return rule_from_mapping((await _rows(connection, "put_rule", rule_parameters(rule)))[0])


async def _check_count(connection: AsyncConnection) -> None:
    row = await (await connection.execute(QUERIES["count_rules"])).fetchone()
    if row is not None and row[0] > MAX_RULES:
        raise RuleError(f"there would be {row[0]} rules, the limit is {MAX_RULES}; delete some")


def _storable(rule_type: str) -> str:
    """What PostgreSQL takes as text, for a name that no rule has."""
    return rule_type.replace("\0", "?").encode("utf-8", "replace").decode()


def _applied(before: Mapping[str, RuleRow], after: Mapping[str, RuleRow], given: Sequence[str]) -> Applied:
    return Applied(
        added=tuple(name for name in given if name not in before),
        changed=tuple(name for name in given if name in before and before[name] != after[name]),
        unchanged=tuple(name for name in given if before.get(name) == after[name]),
        removed=tuple(name for name in before if name not in after),
    )
