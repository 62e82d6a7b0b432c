"""The rules of the database, asked for once a second at most however many clients want them."""

from __future__ import annotations

import asyncio
from typing import Final

from app.database.rule_store import RuleStore, StoredRules
from app.rules.rule import Rule
from app.sidecar.database import Database, HistoryUnavailable
from app.sidecar.problems import RequestError, unavailable, unknown_rule

_FRESH_S: Final = 1.0


class KnownRules:
    """What another replica or command changes is seen a second later, what this one changes at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stored: StoredRules | None = None
        self._by_type: dict[str, Rule] = {}
        self._read_at_s = 0.0
        self._changes = 0
        self._reading = asyncio.Lock()

    async def stored(self) -> StoredRules:
        """Raises RequestError 503 while the database cannot be asked."""
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
        """Raises RequestError: 404, 409 for what is stored under this name and is no rule, and 503."""
        stored = await self.stored()
        if rule_type in stored.refused:
            fault = stored.refused[rule_type]
            raise RequestError(409, "rule_refused", f"what is stored cannot be used: {fault}")
        if rule_type not in self._by_type:
            raise unknown_rule()
        return self._by_type[rule_type]

    async def names(self) -> set[str]:
        """The names of those that can be used. Raises RequestError 503."""
        await self.stored()
        return set(self._by_type)

    def forget(self) -> None:
        """To be called when this replica has changed a rule."""
        self._stored = None
        self._changes += 1
