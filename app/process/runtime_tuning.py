"""Keep a process from pausing for tens of milliseconds while alerts wait."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import Any

_SWITCH_INTERVAL_S = 0.0005
_COLLECT_AFTER = (10_000, 20, 20)
"""Objects, young collections, middle collections."""


def imported(module: str, name: str) -> Any:
    """Return `name` of a module, imported without garbage collections: they take a tenth of the time of an import, and
    find nothing, because what a module makes lives until the end."""
    gc.disable()
    try:
        return getattr(import_module(module), name)
    finally:
        gc.enable()


def avoid_pauses() -> None:
    """Tune garbage collection and threads; call it when everything is imported and built.

    The 120,000 objects of imported modules, which live until the end, are excluded from garbage collection: a full
    collection takes 0.06 s with them. Without them Python sees a small heap and often collects all of it, 4 ms in the
    middle of a market's close; so a collection waits for more new objects. Threads switch after 0.5 ms instead of 5:
    Faust fetches records in a thread of its own, which waits that long for a busy event loop whenever records arrive.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
