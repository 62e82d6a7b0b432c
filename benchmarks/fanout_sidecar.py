"""The sidecar as a process of the fan-out benchmark."""

from __future__ import annotations

import asyncio

import uvloop

from app.clock import SystemClock
from app.observe import configure_logging
from app.settings import Settings
from app.sidecar.server import run_sidecar
from benchmarks.fanout_cpu import allow_many_files, keep_to_core


async def main() -> None:
    keep_to_core()
    allow_many_files()
    settings = Settings.load()
    configure_logging(settings.log_level, settings.log_format)
    await run_sidecar(settings, SystemClock(), asyncio.Event())


if __name__ == "__main__":
    uvloop.run(main())
