"""Faults that come by themselves: a list in YAML, each entry with its time after the start."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
import yaml
from pydantic import TypeAdapter, ValidationError

from app.errors import SettingsError
from app.local.exchange.faults.active import FaultRefused, Faults
from app.local.exchange.faults.kinds import ScheduledFault

_SCHEDULE: Final = TypeAdapter(tuple[ScheduledFault, ...])
log = structlog.get_logger("simexchange")


def read_schedule(path: Path) -> tuple[ScheduledFault, ...]:
    """Return a list of `{at_s, every_s, times, fault: {kind, ...}}`. Raises SettingsError naming every bad entry."""
    try:
        entries = yaml.safe_load(path.read_text("utf-8"))
        return _SCHEDULE.validate_python(entries or (), strict=False)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} is not a readable YAML file: {error}") from error
    except ValidationError as error:
        faults = "\n  ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        )
        raise SettingsError(f"{path} is not a valid schedule of faults:\n  {faults}") from error


async def run_schedule(faults: Faults, schedule: Sequence[ScheduledFault]) -> None:
    """Start each fault at its times, until cancelled."""
    began_s = time.monotonic()
    due = [(entry.at_s, number, 1) for number, entry in enumerate(schedule)]
    heapq.heapify(due)
    while due:
        at_s, number, time_number = heapq.heappop(due)
        await asyncio.sleep(max(0.0, began_s + at_s - time.monotonic()))
        entry = schedule[number]
        try:
            hit = faults.begin(entry.fault)
            log.info("fault_begun", fault=entry.fault.kind, hit=hit)
        except FaultRefused as error:
            log.warning("fault_refused", fault=entry.fault.kind, error=str(error))
        if entry.every_s is not None and (entry.times is None or time_number < entry.times):
            heapq.heappush(due, (at_s + entry.every_s, number, time_number + 1))
    await asyncio.Event().wait()
