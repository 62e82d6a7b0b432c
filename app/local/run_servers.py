"""The servers of a run: servers given by URL are checked, the others started."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from app.local.servers.embedded import EmbeddedStack
from app.local.servers.reachability import check_servers
from app.process.interrupts import interruptible
from app.settings import ServerUrls, Settings
from app.wire.kafka import client_options


@dataclass(frozen=True, slots=True)
class Servers:
    settings: Settings
    """With a URL for every server."""
    stack: EmbeddedStack | None = None
    """The servers that this run started itself; None if all were given."""


@contextmanager
def started_servers(settings: Settings, directory: Path) -> Iterator[Servers]:
    """Yield all servers while the context lasts: servers without a URL are started under `directory`, the others must
    answer. Raises ServerError with advice if one cannot be started or reached."""
    missing = [
        server.name for server in fields(ServerUrls) if getattr(settings, f"{server.name}_url") is None
    ]
    if not missing:
        asyncio.run(interruptible(check_servers(settings.server_urls(), client_options(settings.kafka()))))
        yield Servers(settings)
        return
    with EmbeddedStack.start(directory, missing) as stack:
        given = {f"{server}_url": url for server, url in stack.urls.items()}
        complete = type(settings).model_validate({**settings.model_dump(), **given})
        asyncio.run(interruptible(check_servers(complete.server_urls(), client_options(complete.kafka()))))
        yield Servers(complete, stack)
