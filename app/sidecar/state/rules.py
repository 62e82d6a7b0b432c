"""Rules as the sidecar shows them: the rules in the database, read at most once a second for any number of clients;
and which rules are switched off, where and why: in the alert workers, as they report, and in this sidecar itself."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Final, TypedDict

import structlog
from redis.exceptions import RedisError

from app.alerts.switched_off import SwitchedOff, SwitchedOffBoard, SwitchedOffRules
from app.database.rule_store import RuleStore, StoredRules
from app.process.tasks import to_its_end
from app.rules.evaluation.rulebook import RuleFault
from app.rules.rule import Rule
from app.sidecar.http.problems import RequestError, unavailable, unknown_rule
from app.sidecar.state.database import Database, HistoryUnavailable
from app.telemetry import SidecarMetrics
from app.times import rfc3339

_FRESH_S: Final = 1.0
_LOOK_S: Final = 2.0
_SHOWN_IN_HEALTH: Final = 20

log = structlog.get_logger("rules")

_FIELDS: Final = tuple(field.name for field in fields(Rule))


class RuleOff(TypedDict):
    """A rule that is switched off: where, since when (RFC 3339), and why."""

    rule_type: str
    reason: str
    since: str
    processes: list[str]


class RulesReport(TypedDict):
    """switched_off: the number of rules that are switched off. which: the first of these rules."""

    switched_off: int
    which: list[RuleOff]


class RuleList:
    """List of rules. Changes by other replicas are seen a second later, own changes at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stored: StoredRules | None = None
        self._by_type: dict[str, Rule] = {}
        self._read_at_s = 0.0
        self._changes = 0
        self._reading = asyncio.Lock()

    async def stored(self) -> StoredRules:
        """Return the stored rules. Raises RequestError 503 while the database does not answer."""
        loop = asyncio.get_running_loop()
        async with self._reading:
            while self._stored is None or loop.time() - self._read_at_s >= _FRESH_S:
                await self._read(loop.time())
            return self._stored

    async def _read(self, now_s: float) -> None:
        before = self._changes
        try:
            async with self._database.pool("read_rules") as pool:
                found = await RuleStore(pool).load()
        except HistoryUnavailable:
            raise unavailable("the rules") from None
        if before == self._changes:
            self._stored, self._read_at_s = found, now_s
            self._by_type = {rule.rule_type: rule for rule in found.rules}

    async def find(self, rule_type: str) -> Rule:
        """Return a rule. Raises RequestError: 404, 409 for an invalid row under this name, and 503."""
        stored = await self.stored()
        if rule_type in stored.refused:
            fault = stored.refused[rule_type]
            raise RequestError(409, "rule_refused", f"the stored rule is invalid: {fault}")
        if rule_type not in self._by_type:
            raise unknown_rule()
        return self._by_type[rule_type]

    async def names(self) -> set[str]:
        """Return the names of the valid rules. Raises RequestError 503."""
        await self.stored()
        return set(self._by_type)

    def forget(self) -> None:
        """Forget the list after this replica changed a rule."""
        self._stored = None
        self._changes += 1


class RuleStates:
    """Tells which rules are switched off, as last read from Redis; the state is kept while Redis is down."""

    def __init__(self, own: SwitchedOffRules, board: SwitchedOffBoard, metrics: SidecarMetrics) -> None:
        self._own = own
        self._board = board
        self._metrics = metrics
        self._off: list[SwitchedOff] = []

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            # a cancellation in the middle of connecting would be taken for a fault of Redis
            await to_its_end(self._look())
            await asyncio.sleep(_LOOK_S)

    async def _look(self) -> None:
        try:
            await self._board.tell()
            self._off = await self._board.read()
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("switched_off_rules_unknown", error=repr(error))

    def failed_here(self, rule: Rule, error: Exception) -> None:
        """Note that the rule raised in this sidecar: it is not retried until it is edited."""
        if self._own.note(RuleFault.of(rule, error)):
            self._metrics.rule_failures.labels(rule_type=rule.rule_type).inc()

    def reason_here(self, rule: Rule) -> str | None:
        """Return the reason why this sidecar does not evaluate the rule; None if it does."""
        return self._own.reason(rule)

    def describe(self, rule: Rule) -> dict[str, object]:
        """Return the rule with its `state` and, if it is switched off anywhere, where and why."""
        faults = [
            {"process": entry.process, "since": rfc3339(entry.since_ms), "reason": entry.reason}
            for entry in self._all()
            if entry.rule_type == rule.rule_type and entry.rule_version == rule.version
        ]
        described: dict[str, object] = {name: getattr(rule, name) for name in _FIELDS}
        works = "shadow" if rule.shadow else "active"
        described["state"] = "disabled" if not rule.enabled else "switched_off" if faults else works
        return described | ({"faults": faults} if faults else {})

    def report(self) -> RulesReport:
        """Return the rules' part of the health report."""
        by_rule: dict[str, list[SwitchedOff]] = {}
        for entry in self._all():
            by_rule.setdefault(entry.rule_type, []).append(entry)
        shown: list[RuleOff] = [
            {
                "rule_type": rule_type,
                "reason": entries[0].reason,
                "since": rfc3339(min(entry.since_ms for entry in entries)),
                "processes": [entry.process for entry in entries],
            }
            for rule_type, entries in list(by_rule.items())[:_SHOWN_IN_HEALTH]
        ]
        return {"switched_off": len(by_rule), "which": shown}

    def _all(self) -> list[SwitchedOff]:
        """Return the rules reported by other processes, and the unreported rules of this process."""
        return [*(entry for entry in self._off if entry.process != self._own.process), *self._own.entries()]
