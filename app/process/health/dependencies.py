"""The servers that a role depends on, asked now and then in their own protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NotRequired, TypedDict

import structlog

from app.errors import ScreenerError
from app.process.tasks import together
from app.telemetry import RuntimeMetrics

Ask = Callable[[], Awaitable[None]]
"""Returns when the server answers; raises anything when it does not."""
_EVERY_S: Final = 15.0
_RECHECK_S: Final = 2.0
"""A server that is down is asked more often."""
_TIMEOUT_S: Final = 5.0
_FAULT_MAX_CHARACTERS: Final = 500

log = structlog.get_logger("health")


class DependencyState(TypedDict):
    """A server as the health reports show it. unknown: not asked yet. fault: why it is down, where we know it."""

    state: Literal["up", "down", "unknown"]
    needed: bool
    fault: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Dependency:
    """`needed`: without it the role cannot do its work. Otherwise it continues with less."""

    name: str
    ask: Ask
    needed: bool = True


class Dependencies:
    """The last answer of each dependency; `run` asks for as long as the process lives."""

    def __init__(self, dependencies: Sequence[Dependency], metrics: RuntimeMetrics) -> None:
        self._dependencies = tuple(dependencies)
        self._metrics = metrics
        self._up: dict[str, bool | None] = {dependency.name: None for dependency in dependencies}
        self._faults: dict[str, str] = {}

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await together(*(self._check(dependency) for dependency in self._dependencies))
            await asyncio.sleep(_EVERY_S if all(self._up.values()) else _RECHECK_S)

    def report(self) -> tuple[dict[str, DependencyState], bool]:
        """Return (name -> state, whether all needed ones are up)."""
        found = {dependency.name: self._state(dependency) for dependency in self._dependencies}
        return found, all(self._up[one.name] is not False for one in self._dependencies if one.needed)

    def _state(self, dependency: Dependency) -> DependencyState:
        up = self._up[dependency.name]
        state: DependencyState = {
            "state": "unknown" if up is None else "up" if up else "down",
            "needed": dependency.needed,
        }
        if dependency.name in self._faults:
            state["fault"] = self._faults[dependency.name]
        return state

    @property
    def all_up(self) -> bool:
        return all(self._up.values())

    async def _check(self, dependency: Dependency) -> None:
        name, before = dependency.name, self._up[dependency.name]
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await dependency.ask()
        except Exception as error:  # any error of any client means: down
            if before is not False:
                log.warning("dependency_down", dependency=name, fault=repr(error))
            self._up[name] = False
            if isinstance(error, ScreenerError):
                # our own words; a client's may reveal more than a page should
                self._faults[name] = str(error)[:_FAULT_MAX_CHARACTERS]
        else:
            if before is False:
                log.info("dependency_up", dependency=name)
            self._up[name] = True
            self._faults.pop(name, None)
        self._metrics.dependency_up.labels(name).set(float(self._up[name] is True))
