"""Code that the checks of a running Compose and of a cluster share."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

PASSWORDS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "NATS_PASSWORD", "GRAFANA_PASSWORD", "JWT_SECRET")
BACK_S = 240.0
INCOMPLETE = """\
SELECT count(*) FROM (
    SELECT count(*) AS found, extract(epoch FROM max(time) - min(time)) / 60 + 1 AS wanted
    FROM candles_1m GROUP BY symbol
) AS of_a_symbol WHERE found <> wanted"""
"""Counts the symbols that miss a minute between their first and their last stored one."""


def eventually(what: str, condition: Callable[[], object], within_s: float = BACK_S) -> float:
    """Wait until a condition is true; return the seconds. Ends this program when it takes too long."""
    began_s = time.monotonic()
    while not (found := condition()):
        if time.monotonic() - began_s > within_s:
            sys.exit(f"{what}: not within {within_s:.0f} s; last: {found!r}")
        time.sleep(1)
    return time.monotonic() - began_s
