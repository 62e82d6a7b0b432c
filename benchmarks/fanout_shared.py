"""Code that the processes of the fan-out benchmark share: cores, limits, and each client's symbols."""

from __future__ import annotations

import os
import random
import resource

CORE_VARIABLE = "FANOUT_CORE"
SYMBOLS = tuple(f"S{number:03}USDT" for number in range(500))


def symbol_of(alert: int) -> str:
    """Return the symbol of an alert by its number; the symbols of successive alerts are far apart."""
    return SYMBOLS[alert * 211 % len(SYMBOLS)]


def watch_list(client: int, length: int) -> frozenset[str]:
    """Return a client's own random symbols, the same ones in every process."""
    return frozenset(random.Random(client).sample(SYMBOLS, length))  # guards nothing


def expected_deliveries(clients: int, alerts: int, watched: int) -> int:
    """watched: symbols of a client; 0 for all."""
    if not watched:
        return clients * alerts
    return sum(
        symbol_of(alert) in wanted
        for wanted in (watch_list(client, watched) for client in range(clients))
        for alert in range(alerts)
    )


def keep_to_core() -> None:
    """Pin this process to the core that the environment names, if it names one."""
    core = os.environ.get(CORE_VARIABLE)
    if core:
        os.sched_setaffinity(0, {int(core)})


def allow_many_files() -> None:
    """Raise the limit of open files, one for each connection, as far as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
