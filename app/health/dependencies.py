"""The servers that a role depends on, asked now and then in their own protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from app.telemetry import RuntimeMetrics

Ask = Callable[[], Awaitable[None]]
"""Returns when the server answers; raises anything when it does not."""
_EVERY_S: Final = 15.0
_RECHECK_S: Final = 2.0
"""A server that is down is asked more often."""
_TIMEOUT_S: Final = 5.0

log = structlog.get_logger("health")


@dataclass(frozen=True, slots=True)
class Dependency:
    """`needed`: without it the role cannot do its work. Otherwise it goes on with less."""

    name: str
    ask: Ask
    needed: bool = True


class Dependencies:
    """What was found when each was last asked; `run` asks for as long as the process lives."""

    def __init__(self, dependencies: Sequence[Dependency], metrics: RuntimeMetrics) -> None:
        self._dependencies = tuple(dependencies)
        self._metrics = metrics
        self._up: dict[str, bool | None] = {dependency.name: None for dependency in dependencies}

    async def run(self) -> None:
        """Never returns; ends by cancellation."""
        while True:
            await asyncio.gather(*(self._check(dependency) for dependency in self._dependencies))
            await asyncio.sleep(_EVERY_S if all(self._up.values()) else _RECHECK_S)

    def report(self) -> tuple[dict[str, Any], bool]:
        """(name -> state `up`, `down` or `unknown` (not asked yet) and whether it is needed; all needed are up)."""
        states = {True: "up", False: "down", None: "unknown"}
        found = {
            dependency.name: {"state": states[self._up[dependency.name]], "needed": dependency.needed}
            for dependency in self._dependencies
        }
        return found, all(self._up[one.name] is not False for one in self._dependencies if one.needed)

    @property
    def all_up(self) -> bool:
        return all(self._up.values())

    async def _check(self, dependency: Dependency) -> None:
        name, before = dependency.name, self._up[dependency.name]
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await dependency.ask()
        except Exception as error:  # each client has errors of its own, and all of them mean: down
            if before is not False:
                log.warning("dependency_down", dependency=name, fault=repr(error))
            self._up[name] = False
        else:
            if before is False:
                log.info("dependency_up", dependency=name)
            self._up[name] = True
        self._metrics.dependency_up.labels(name).set(float(self._up[name] is True))
