"""Which core a process of the fan-out benchmark runs on, and how many connections it may have."""

from __future__ import annotations

import os
import resource

CORE_VARIABLE = "FANOUT_CORE"


def keep_to_core() -> None:
    """To the one that the environment names; anywhere without."""
    core = os.environ.get(CORE_VARIABLE)
    if core:
        os.sched_setaffinity(0, {int(core)})


def allow_many_files() -> None:
    """One for each connection: as many as the system lets us."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
