"""Which servers each role depends on, and whether it can go on without one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from functools import partial
from typing import Final

from app.errors import ExchangeUnreachable
from app.health.dependencies import Dependency
from app.kafka_access import kafka_access
from app.settings import Settings
from app.stack.probe import PROBES, Probe, probe_kafka
from app.telemetry import feed_metrics

NEEDS: Final[dict[str, dict[str, bool]]] = {
    # tickers wait for Redis, reports of gaps for Kafka; a start without the database fetches more than it must
    "feed": {"nats": True, "kafka": False, "redis": False, "postgres": False},
    "bridge": {"nats": True, "kafka": True},
    # Redis takes only reports of barriers
    "collector": {"kafka": True, "redis": False},
    # the database refills what the tables lack after a start
    "calculator": {"kafka": True, "redis": False, "postgres": False},
    # cooldowns go on from memory, and the last known rules
    "alerts": {"kafka": True, "redis": False, "postgres": False},
    "sinks": {"kafka": True, "postgres": True, "redis": False},
    "webhooks": {"kafka": True, "postgres": True},
}
"""Role -> server -> whether the role stands still without it. The sidecar has a report of its own."""


def dependencies_of(roles: Collection[str], settings: Settings) -> tuple[Dependency, ...]:
    """Those of a process with these roles, for the feed the exchange too. Raises SettingsError when a server has
    no URL."""
    urls = asdict(settings.server_urls())
    needed: dict[str, bool] = {}
    for role in roles:
        for server, is_needed in NEEDS.get(role, {}).items():
            needed[server] = needed.get(server, False) or is_needed
    probes: dict[str, Probe] = {**PROBES, "kafka": partial(probe_kafka, access=kafka_access(settings))}
    servers = tuple(
        Dependency(name, partial(probes[name], urls[name]), need) for name, need in needed.items()
    )
    return (*servers, Dependency("exchange", _exchange_speaks)) if "feed" in roles else servers


async def _exchange_speaks() -> None:
    """Looks at the feed's own connections: to ask the exchange would count against its limits."""
    if not feed_metrics().connections._value.get():
        raise ExchangeUnreachable("no connection to the exchange is open")
