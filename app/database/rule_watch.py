"""The rules in force in one worker: those of the table `alert_rules`, followed while the worker runs.

The database tells of every change, whoever makes it, and the worker reads the table anew; should word of a
change be lost (a pooler in between that passes none on), a slow poll finds it. A row that is no rule is
refused, and the rule stays as it was. While the database is away the last known rules go on: those of this
worker, those its last run kept in a file, or, if it never knew any, the shipped ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import psycopg
import structlog
from psycopg import AsyncConnection, sql

from app.database.connection import connection_url
from app.database.outages import OUTAGES, until_done
from app.database.rule_store import RuleRow, read_rules
from app.known_rules import KnownRules
from app.rules.rule import Rule
from app.rules.rulebook import RuleBook
from app.rules.shipped import shipped_rules
from app.rules.updates import Update, update_rules
from app.settings import Settings
from app.telemetry import alert_metrics, database_metrics

_POLL_S: Final = 10.0
_GATHER_S: Final = 0.05
"""Changes that follow each other closely are taken over together."""
_START_TIMEOUT_S: Final = 8.0
"""How long a start waits for the database: longer than one attempt to connect."""

log = structlog.get_logger("rules")


class RuleWatch:
    """A companion of a worker (`app.worker.Companion`); `book` is what to evaluate from the next frame on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._channel = f"{settings.database_schema}.alert_rules"
        self._known = KnownRules(settings)
        self._rows: list[RuleRow] | None = None
        self._rules: tuple[Rule, ...] = ()
        self._refused: Mapping[str, str] = {}
        self._away = False
        self._never_stop = asyncio.Event()
        self._use(())
        self._show_away(False)

    @property
    def book(self) -> RuleBook:
        """Another object after every change, the same until then."""
        return self._book

    async def begin(self) -> None:
        """The rules of the database or, if it does not answer soon, the last known ones; never fails."""
        known = await asyncio.to_thread(self._known.read)
        self._rules = shipped_rules() if known is None else known
        try:
            async with asyncio.timeout(_START_TIMEOUT_S), await self._connect() as connection:
                await self._read(connection)
        except (psycopg.Error, TimeoutError) as error:
            self._use(self._rules)
            self._lost(error, "shipped" if known is None else "last_known")

    async def run(self) -> None:
        """Follows the table until cancelled."""
        while True:
            connection = await until_done(self._listen, self._never_stop, self._lost)
            try:
                async with connection:
                    await self._follow(connection)
            except OUTAGES as error:
                self._lost(error)

    async def _listen(self) -> AsyncConnection:
        """A connection that hears of changes, once the rules as they are now have been taken over."""
        connection = await self._connect()
        try:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            await self._read(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _follow(self, connection: AsyncConnection) -> None:
        while True:
            told = [word async for word in connection.notifies(timeout=_POLL_S, stop_after=1)]
            if told:
                # those of one burst
                async for _ in connection.notifies(timeout=_GATHER_S):
                    pass
            await self._read(connection)

    async def _connect(self) -> AsyncConnection:
        return await AsyncConnection.connect(connection_url(self._settings), autocommit=True)

    async def _read(self, connection: AsyncConnection) -> None:
        database_metrics().queries.labels(operation="read_rules").inc()
        try:
            rows = await read_rules(connection)
        except OUTAGES:
            raise
        except psycopg.Error as error:
            advice = "run `screener migrate`, and let its user read the table"
            raise psycopg.OperationalError(f"alert_rules cannot be read: {error}; {advice}") from error
        self._answered()
        if rows != self._rows:
            await self._take_over(rows)

    async def _take_over(self, rows: list[RuleRow]) -> None:
        first = self._rows is None
        # hundreds of rules take a tenth of a second to parse, which frames should not wait for
        update = await asyncio.to_thread(update_rules, self._rules, rows)
        self._report_refused(update.refused)
        if first or update.is_change:
            book = await asyncio.to_thread(RuleBook.compile, update.rules, self._settings.alert_mode)
            self._rules, self._book = update.rules, book
            alert_metrics().rules.set(len(book.rules))
            _report_change(update, len(book.rules), first)
            await asyncio.to_thread(self._known.write, update.rules)
        self._rows = rows

    def _use(self, rules: Sequence[Rule]) -> None:
        self._book = RuleBook.compile(rules, self._settings.alert_mode)
        alert_metrics().rules.set(len(self._book.rules))

    def _report_refused(self, refused: Mapping[str, str]) -> None:
        for rule_type, fault in refused.items():
            if self._refused.get(rule_type) != fault:
                alert_metrics().rule_changes.labels(operation="refused").inc()
                log.error("rule_refused", rule_type=rule_type, error=fault, policy="its last good form stays")
        self._refused = refused
        alert_metrics().rules_refused.set(len(refused))

    def _lost(self, error: BaseException, rules: str = "last_known") -> None:
        database_metrics().errors.labels(operation="read_rules").inc()
        if not self._away:
            log.warning(
                "rules_unavailable",
                error=str(error) or repr(error),
                rules=rules,
                enabled=len(self._book.rules),
            )
        self._show_away(True)

    def _answered(self) -> None:
        if self._away:
            log.info("rules_available")
        self._show_away(False)

    def _show_away(self, away: bool) -> None:
        self._away = away
        alert_metrics().rules_degraded.set(away)


def _report_change(update: Update, enabled: int, first: bool) -> None:
    if first:
        log.info("rules_loaded", enabled=enabled, stored=len(update.rules))
        return
    changes = {"added": update.added, "changed": update.changed, "removed": update.removed}
    for kind, names in changes.items():
        alert_metrics().rule_changes.labels(operation=kind).inc(len(names))
    log.info(
        "rules_changed", enabled=enabled, **{kind: list(names) for kind, names in changes.items() if names}
    )
