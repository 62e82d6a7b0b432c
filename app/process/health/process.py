"""The health of one process, with all its roles: computed once, shown on each of its ports."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal, TypedDict

from prometheus_client import REGISTRY, CollectorRegistry

from app.process.health.dependencies import Dependencies, Dependency, DependencyState
from app.process.health.loop_probe import LoopProbe, loop_probe
from app.process.health.memory_limit import memory_limit_bytes
from app.process.health.signs import SignsOfLife
from app.process.tasks import ended, kept_running
from app.telemetry import RuntimeMetrics, runtime_metrics
from app.telemetry.catalogue import RoleRegistry
from app.telemetry.health_server import serve_health


class ProcessReport(TypedDict):
    """The body of /health. dependencies: name -> state."""

    status: Literal["ok", "degraded", "down"]
    role: str
    version: str
    live: bool
    ready: bool
    dependencies: dict[str, DependencyState]


class ProcessHealth:
    """Use `process_health`, which runs the checks that this reads."""

    def __init__(self, probe: LoopProbe, dependencies: Dependencies, ready: Callable[[], bool]) -> None:
        self._probe = probe
        self._dependencies = dependencies
        self._ready = ready

    @property
    def live(self) -> bool:
        return self._probe.turns

    @property
    def ready(self) -> bool:
        return self._ready()

    def report(self, role: str) -> tuple[ProcessReport, bool]:
        """Return (the body of /health, whether the role can work)."""
        dependencies, works = self._dependencies.report()
        fine = self._dependencies.all_up and self.ready
        return {
            "status": "down" if not works else "ok" if fine else "degraded",
            "role": role,
            "version": version("screener"),
            "live": self.live,
            "ready": self.ready,
            "dependencies": dependencies,
        }, works


def describe_process(metrics: RuntimeMetrics, ready: Callable[[], bool], data_dir: Path) -> None:
    """Register gauges that are read when Prometheus asks."""
    # the directory may not exist yet; its disk does
    there = next(path for path in (data_dir, *data_dir.resolve().parents) if path.exists())
    metrics.build_info.labels(version("screener")).set(1)
    metrics.ready.set_function(lambda: float(ready()))
    metrics.disk_free_bytes.set_function(lambda: float(shutil.disk_usage(there).free))
    metrics.disk_size_bytes.set_function(lambda: float(shutil.disk_usage(there).total))
    metrics.memory_limit_bytes.set_function(lambda: float(memory_limit_bytes()))


@asynccontextmanager
async def process_health(
    dependencies: Sequence[Dependency],
    ready: Callable[[], bool],
    data_dir: Path,
    signs: SignsOfLife | None = None,
    registry: CollectorRegistry = REGISTRY,
) -> AsyncIterator[ProcessHealth]:
    """Probe the loop, ask the dependencies, and give signs of life if told to, while the context lasts."""
    metrics = runtime_metrics(registry)
    describe_process(metrics, ready, data_dir)
    asked = Dependencies(dependencies, metrics)
    async with loop_probe(metrics) as probe:
        tasks = [asyncio.create_task(kept_running("dependencies", asked.run, registry), name="dependencies")]
        if signs:
            tasks.append(asyncio.create_task(signs.run(ready), name="signs-of-life"))
        try:
            yield ProcessHealth(probe, asked, ready)
        finally:
            await ended(*tasks)


@dataclass(frozen=True, slots=True)
class RolePages:
    """The pages of one role, and their address."""

    setting: str
    """The variable that sets the port."""
    port: int
    registry: RoleRegistry


@asynccontextmanager
async def serve_roles(
    health: ProcessHealth, host: str, pages: Mapping[str, RolePages]
) -> AsyncIterator[Mapping[str, int]]:
    """Serve the pages of each role on its own port while the context lasts; yield role -> port bound.

    Raises PortTaken naming the variable.
    """
    async with AsyncExitStack() as servers:
        bound = {}
        for role, page in pages.items():
            server = serve_health(
                host,
                page.port,
                live=lambda: health.live,
                ready=lambda: health.ready,
                report=lambda role=role: health.report(role),  # type: ignore[misc]  # reason: binds now
                setting=page.setting,
                registry=page.registry,
            )
            bound[role] = await servers.enter_async_context(server)
        yield bound
