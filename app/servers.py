"""The servers of a run: those given by URL, checked, and the others started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from app.errors import ServerDied
from app.kafka_access import kafka_access
from app.settings import ServerUrls, Settings
from app.stack.embedded import EmbeddedStack
from app.stack.reach import check_servers

Faults = Callable[[], tuple[ServerDied, ...]]
"""The servers that ended without being asked to."""


@dataclass(frozen=True, slots=True)
class Servers:
    settings: Settings
    """With a URL for every server."""
    faults: Faults
    started: frozenset[str] = frozenset()
    """The servers that this run started itself."""


@contextmanager
def started_servers(settings: Settings, directory: Path) -> Iterator[Servers]:
    """All servers while the context lasts: those without a URL are started under `directory`, the others must
    answer. Raises ServerError with advice if one cannot be started or reached."""
    missing = [
        server.name for server in fields(ServerUrls) if getattr(settings, f"{server.name}_url") is None
    ]
    if not missing:
        asyncio.run(check_servers(settings.server_urls(), kafka_access(settings)))
        yield Servers(settings, lambda: ())
        return
    with EmbeddedStack.start(directory, missing) as stack:
        given = {f"{server}_url": url for server, url in stack.urls.items()}
        complete = type(settings).model_validate({**settings.model_dump(), **given})
        asyncio.run(check_servers(complete.server_urls(), kafka_access(complete)))
        yield Servers(complete, stack.faults, frozenset(missing))
