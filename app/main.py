"""The Faust apps, one per role: `faust -A app.main:collector worker`, or `:calculator`, `:alerts`, `:all`.

An app is built from the environment (`SCREENER_*`) when its name is first read; importing builds no app.
"""

from __future__ import annotations

import sys
from functools import cache

import faust

from app.clock import SystemClock
from app.errors import ScreenerError
from app.pipeline import WORKER_ROLES, build_worker
from app.process.exit_status import EXIT_CONFIG
from app.settings import Settings


@cache
def _app(role: str) -> faust.App:
    try:
        return build_worker(role, Settings.load(), SystemClock())
    except ScreenerError as error:
        print(f"screener: {error}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)


def __getattr__(name: str) -> faust.App:
    if name in WORKER_ROLES:
        return _app(name)
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}; roles are {', '.join(WORKER_ROLES)}"
    )
