"""The active rules of one worker: the table `alert_rules`, followed while the worker runs.

The database announces every change, and the worker reads the table again; if the announcement of a change is lost (in
a pooler that drops notifications), a slow poll finds it. An invalid row is rejected, and the rule stays as it was.
While the database is down the last known rules stay active: the rules that this worker has read, else those of its
last run (kept in a file), else the shipped rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import psycopg
import structlog
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection, sql

from app.alerts.known_rules import KnownRules
from app.alerts.switched_off import SwitchedOffRules
from app.clock import Clock
from app.database.connection import connect
from app.database.rule_store import RuleRow, read_rules
from app.rules.evaluation.rulebook import RuleBook, RuleFault
from app.rules.files import shipped_rules
from app.rules.rule import Mode, Rule
from app.rules.updates import Update, update_rules
from app.settings.access import PostgresAccess
from app.telemetry import alert_metrics, database_metrics
from app.telemetry.registry import from_zero
from app.wire.faults import time_heals
from app.wire.retry import OutageLog, retried

_POLL_S: Final = 10.0
_GATHER_S: Final = 0.05
"""Changes that follow each other closely are taken over together."""
_START_TIMEOUT_S: Final = 8.0
"""How long a start waits for the database: longer than one attempt to connect."""

log = structlog.get_logger("rules")


class RuleWatch:
    """A companion of a worker (`app.process.faust_worker.worker.Companion`); `book` is the rules to evaluate from the
    next frame on.

    `switched_off`: the rules that raised in this worker, which are not in the book until they are edited.
    """

    def __init__(
        self,
        postgres: PostgresAccess,
        known: KnownRules,
        alert_mode: Mode,
        clock: Clock,
        registry: CollectorRegistry,
        role: Literal["alerts", "market"] = "alerts",
    ) -> None:
        """registry: of the metrics of the role. role: `market` takes the rules that look at the whole market, `alerts`
        the others."""
        self._metrics, self._database_metrics = alert_metrics(registry), database_metrics(registry)
        self._of_the_market = role == "market"
        self.switched_off = SwitchedOffRules(role, clock)
        self._postgres = postgres
        self._alert_mode = alert_mode
        self._channel = f"{postgres.schema}.alert_rules"
        self._known = known
        self._rows: list[RuleRow] | None = None
        self._rules: tuple[Rule, ...] = ()
        self._refused: Mapping[str, str] = {}
        self._outage = OutageLog(log, "rules_unavailable")
        self._use(())
        self._metrics.rules_degraded.set(False)

    @property
    def book(self) -> RuleBook:
        """The active rules: a new object after every change, the same object until then."""
        return self._book

    def switch_off(self, faults: Sequence[RuleFault]) -> None:
        """Remove these rules from the book, from the next frame on."""
        if self._note(faults):
            self._use(self._rules)

    async def begin(self) -> None:
        """Load the rules of the database or, if it does not answer soon, the last known ones; never fails."""
        known = await asyncio.to_thread(self._known.read)
        self._rules = shipped_rules() if known is None else known
        try:
            async with asyncio.timeout(_START_TIMEOUT_S), await self._connect() as connection:
                await self._read(connection)
        except (psycopg.Error, TimeoutError) as error:
            self._use(self._rules)
            self._lost(error, "shipped" if known is None else "last_known")

    async def run(self) -> None:
        """Follow the table until cancelled."""
        while True:
            connection = await retried(self._listen, self._outage, on_failure=self._note_lost)
            try:
                async with connection:
                    await self._follow(connection)
            except psycopg.Error as error:
                if not time_heals(error):
                    raise
                self._lost(error)

    async def _listen(self) -> AsyncConnection:
        """Return a connection that listens for changes, after the current rules are taken over."""
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
                # the other notifications of one burst
                async for _ in connection.notifies(timeout=_GATHER_S):
                    pass
            await self._read(connection)

    async def _connect(self) -> AsyncConnection:
        return await connect(self._postgres)

    async def _read(self, connection: AsyncConnection) -> None:
        self._database_metrics.asked("read_rules")
        try:
            rows = await read_rules(connection)
        except psycopg.Error as error:
            if time_heals(error):
                raise
            # a person must fix it; the last known rules stay active meanwhile
            advice = "run `screener migrate`, and let its user read the table"
            raise psycopg.OperationalError(f"cannot read alert_rules: {error}; {advice}") from error
        self._answered()
        if rows != self._rows:
            await self._take_over(rows)

    async def _take_over(self, rows: list[RuleRow]) -> None:
        first = self._rows is None
        # hundreds of rules take a tenth of a second to parse, which frames should not wait for
        update = await asyncio.to_thread(update_rules, self._rules, rows)
        self._report_refused(update.refused)
        if first or update.is_change:
            self.switched_off.keep(update.rules)
            left = self.switched_off.left_of(update.rules)
            book = await asyncio.to_thread(RuleBook.compile, self._mine(left), self._alert_mode)
            self._rules = update.rules
            self._take(book)
            if len(self.switched_off.left_of(left)) < len(left):
                # one of them raised meanwhile
                self._use(self._rules)
            self._report_change(update, first)
            await asyncio.to_thread(self._known.write, update.rules)
        self._rows = rows

    def _use(self, rules: Sequence[Rule]) -> None:
        self._take(RuleBook.compile(self._mine(self.switched_off.left_of(rules)), self._alert_mode))

    def _mine(self, rules: Sequence[Rule]) -> list[Rule]:
        return [rule for rule in rules if rule.looks_at_market == self._of_the_market]

    def _take(self, book: RuleBook) -> None:
        self._book = book
        self._note(book.faults)
        self._metrics.rules.set(len(book.rules))
        from_zero(self._metrics.triggered, *(rule.rule_type for rule in book.rules))
        self._metrics.rules_switched_off.set(len(self.switched_off))

    def _note(self, faults: Sequence[RuleFault]) -> bool:
        """Return whether one of these rules was on until now."""
        new = [fault for fault in faults if self.switched_off.note(fault)]
        for fault in new:
            self._metrics.rule_failures.labels(rule_type=fault.rule.rule_type).inc()
        return bool(new)

    def _report_refused(self, refused: Mapping[str, str]) -> None:
        for rule_type, fault in refused.items():
            if self._refused.get(rule_type) != fault:
                self._metrics.rule_changes.labels(operation="refused").inc()
                log.error("rule_refused", rule_type=rule_type, error=fault, policy="its last good form stays")
        self._refused = refused
        self._metrics.rules_refused.set(len(refused))

    def _lost(self, error: BaseException, rules: str = "last_known") -> None:
        self._outage.failed(error, rules=rules, enabled=len(self._book.rules))
        self._note_lost(error)

    def _note_lost(self, _: BaseException) -> None:
        self._database_metrics.errors.labels(operation="read_rules").inc()
        self._metrics.rules_degraded.set(True)

    def _answered(self) -> None:
        self._outage.over()
        self._metrics.rules_degraded.set(False)

    def _report_change(self, update: Update, first: bool) -> None:
        enabled = len(self._book.rules)
        if first:
            log.info("rules_loaded", enabled=enabled, stored=len(update.rules))
            return
        changes = {"added": update.added, "changed": update.changed, "removed": update.removed}
        for kind, names in changes.items():
            self._metrics.rule_changes.labels(operation=kind).inc(len(names))
        named = {kind: list(names) for kind, names in changes.items() if names}
        log.info("rules_changed", enabled=enabled, **named)
