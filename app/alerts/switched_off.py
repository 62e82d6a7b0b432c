"""Rules that a process switched off because they raised, reported over Redis to the sidecars.

Key `rules-switched-off` in the settings' namespace: a hash with one field per process, a JSON object that is written
again every few seconds; a field older than `_BELIEVED_MS` is of a process that is gone. The alert workers and the
sidecars write, the sidecars read.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.clock import Clock
from app.rules.evaluation.rulebook import RuleFault
from app.rules.rule import Rule
from app.settings.access import Namespace

_TELL_S: Final = 2.0
_BELIEVED_MS: Final = 30_000
_KEPT_S: Final = 3_600
_MOST_SHOWN: Final = 1_000
_REASON_MAX_CHARS: Final = 300

log = structlog.get_logger("rules")


@dataclass(frozen=True, slots=True)
class SwitchedOff:
    """One rule in one process; `since_ms` UTC."""

    rule_type: str
    rule_version: int
    process: str
    reason: str
    since_ms: int


class SwitchedOffRules:
    """The switched-off rules of one process: each stays off until it is edited."""

    def __init__(self, role: str, clock: Clock) -> None:
        self.process = f"{role} {socket.gethostname()}:{os.getpid()}"
        self._clock = clock
        self._faults: dict[str, tuple[RuleFault, int]] = {}

    def __len__(self) -> int:
        return len(self._faults)

    def note(self, fault: RuleFault) -> bool:
        """Return whether the rule was on until now; then it is logged."""
        if self.reason(fault.rule) is not None:
            return False
        self._faults[fault.rule.rule_type] = fault, self._clock.now_ms()
        log.error(
            "rule_switched_off",
            rule_type=fault.rule.rule_type,
            version=fault.rule.version,
            error=fault.error,
            advice="edit the rule; the others go on",
        )
        return True

    def reason(self, rule: Rule) -> str | None:
        """Return why the rule is off; None if it is on."""
        fault, _ = self._faults.get(rule.rule_type, (None, 0))
        return fault.error if fault is not None and fault.rule == rule else None

    def left_of(self, rules: Iterable[Rule]) -> list[Rule]:
        """Return the rules that are not off."""
        return [rule for rule in rules if self.reason(rule) is None]

    def keep(self, rules: Iterable[Rule]) -> None:
        """Forget the rules that are not among these, or have changed."""
        as_they_are = {rule.rule_type: rule for rule in rules}
        self._faults = {
            name: found for name, found in self._faults.items() if as_they_are.get(name) == found[0].rule
        }

    def entries(self) -> list[SwitchedOff]:
        return [
            SwitchedOff(name, fault.rule.version, self.process, fault.error, since_ms)
            for name, (fault, since_ms) in self._faults.items()
        ]


class SwitchedOffBoard:
    """The hash. `run` reports the rules of this process, beside the process's work."""

    def __init__(self, redis: Redis, namespace: Namespace, rules: SwitchedOffRules, clock: Clock) -> None:
        self._redis = redis
        self._key = namespace.name("rules-switched-off")
        self._rules = rules
        self._clock = clock
        self._told = False

    async def begin(self) -> None:
        """Do nothing: no record needs preparation."""

    async def run(self) -> None:
        """Report until cancelled. Outages of Redis are shown and counted elsewhere; missed reports come later."""
        while True:
            telling = asyncio.create_task(self._try_to_tell())
            try:
                await asyncio.shield(telling)
            finally:
                # a cancellation in the middle of connecting would be taken for a fault of Redis
                await asyncio.wait([telling])
            await asyncio.sleep(_TELL_S)

    async def _try_to_tell(self) -> None:
        try:
            await self.tell()
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("switched_off_rules_not_told", error=repr(error))

    async def tell(self) -> None:
        """Write the rules of this process, or remove its field once there are none."""
        process, entries = self._rules.process, self._rules.entries()
        if entries:
            value = {"at_ms": self._clock.now_ms(), "rules": [asdict(entry) for entry in entries]}
            await self._redis.hset(self._key, process, orjson.dumps(value).decode())
            await self._redis.expire(self._key, _KEPT_S)
        elif self._told:
            await self._redis.hdel(self._key, process)
        self._told = bool(entries)

    async def read(self) -> list[SwitchedOff]:
        """Return the switched-off rules of all live processes, by rule. Raises Redis's errors when it is down."""
        found: list[SwitchedOff] = []
        for value in (await self._redis.hgetall(self._key)).values():
            found += _decode(value, self._clock.now_ms() - _BELIEVED_MS)
        return sorted(found, key=lambda entry: (entry.rule_type, entry.process))[:_MOST_SHOWN]


def _decode(value: bytes | str, since_ms: int) -> Sequence[SwitchedOff]:
    """Return no rules for an old or foreign value: it must not fail the reader."""
    try:
        document = orjson.loads(value)
        if document["at_ms"] < since_ms:
            return []
        return [
            SwitchedOff(
                str(entry["rule_type"]),
                int(entry["rule_version"]),
                str(entry["process"]),
                str(entry["reason"])[:_REASON_MAX_CHARS],
                int(entry["since_ms"]),
            )
            for entry in document["rules"]
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        log.warning("switched_off_rules_unreadable", value=value[:100])
        return []
