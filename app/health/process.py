"""The health of one process, whatever roles it has: made once, shown on each of its ports."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from app.health.dependencies import Dependencies, Dependency
from app.health.loop_probe import LoopProbe, loop_probe
from app.observe import serve_health
from app.telemetry import RuntimeMetrics, runtime_metrics


class ProcessHealth:
    """Use `process_health`, which runs what this reads."""

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

    def report(self, role: str) -> tuple[dict[str, Any], bool]:
        """(what /health answers, whether the role can work): `status` is ok, degraded or down."""
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
    """Gauges that are read when Prometheus asks."""
    # the directory may not exist yet; its disk does
    there = next(path for path in (data_dir, *data_dir.resolve().parents) if path.exists())
    metrics.build_info.labels(version("screener")).set(1)
    metrics.ready.set_function(lambda: float(ready()))
    metrics.disk_free_bytes.set_function(lambda: float(shutil.disk_usage(there).free))
    metrics.disk_size_bytes.set_function(lambda: float(shutil.disk_usage(there).total))


@asynccontextmanager
async def process_health(
    dependencies: Sequence[Dependency],
    ready: Callable[[], bool],
    data_dir: Path,
    registry: CollectorRegistry = REGISTRY,
) -> AsyncIterator[ProcessHealth]:
    """Probes the loop and asks the dependencies while the context lasts."""
    metrics = runtime_metrics(registry)
    describe_process(metrics, ready, data_dir)
    asked = Dependencies(dependencies, metrics)
    async with loop_probe(metrics) as probe:
        task = asyncio.create_task(asked.run(), name="dependencies")
        try:
            yield ProcessHealth(probe, asked, ready)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def serve_roles(
    health: ProcessHealth, host: str, ports: Mapping[str, tuple[str, int]]
) -> AsyncIterator[Mapping[str, int]]:
    """Serves the pages of each role on its own port while the context lasts; yields role -> port bound.

    ports: role -> (variable that sets the port, port). Raises PortTaken naming the variable.
    """
    async with AsyncExitStack() as servers:
        bound = {}
        for role, (setting, port) in ports.items():
            server = serve_health(
                host,
                port,
                live=lambda: health.live,
                ready=lambda: health.ready,
                report=lambda role=role: health.report(role),  # type: ignore[misc]  # reason: binds now
                setting=setting,
                role=role,
            )
            bound[role] = await servers.enter_async_context(server)
        yield bound
