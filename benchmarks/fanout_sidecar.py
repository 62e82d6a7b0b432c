"""The sidecar as a process of the fan-out benchmark."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import uvloop

from app.clock import SystemClock
from app.settings import Settings
from app.sidecar.run import serve_sidecar
from app.sidecar.state.limits import SidecarLimits
from app.telemetry.catalogue import RoleRegistry
from app.telemetry.log_output import configure_logging
from benchmarks.fanout_shared import allow_many_files, keep_to_core


async def main() -> None:
    keep_to_core()
    allow_many_files()
    settings = Settings.load()
    configure_logging(settings.log_level, settings.log_format)
    # the benchmark's clients answer no pings, and the server that is compared sends none
    limits = replace(SidecarLimits.of(settings), heartbeat_s=3600.0)
    async with serve_sidecar(settings, SystemClock(), RoleRegistry("sidecar"), limits) as sidecar:
        await sidecar.run_until(asyncio.Event())


if __name__ == "__main__":
    uvloop.run(main())
