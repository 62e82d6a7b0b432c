"""How long `screener up` waits for its roles: while there is progress, and no longer."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from rich.console import Console

import app.cli.up
from app.cli.up import _Up
from app.errors import ServerDied
from app.settings import Settings


class Roles:
    """Processes that write to their logs for some looks, and then neither write nor work."""

    restarts = 0

    def __init__(self, busy_looks: int) -> None:
        self.looks = 0
        self._busy_looks = busy_looks

    def work_done(self) -> int:
        self.looks += 1
        return min(self.looks, self._busy_looks)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.cli.up, "_LOOK_S", 0.01)
    monkeypatch.setattr(app.cli.up, "_SILENT_S", 0.1)


async def wait_for(roles: Roles, ready_after_looks: float, monkeypatch: pytest.MonkeyPatch) -> str:
    """Wait for the roles; return what is shown last."""

    async def ready(self: _Up, session: object, name: str) -> bool:
        return name != "sidecar" or roles.looks >= ready_after_looks

    monkeypatch.setattr(_Up, "_ready", ready)
    console = Console(quiet=True)
    with console.status("") as status:
        up = _Up(Settings(), None, (), console, status)
        await asyncio.wait_for(up._until_ready(cast(Any, None), cast(Any, roles)), 60)
        return str(status.status)


async def test_a_slow_start_is_waited_for_as_long_as_it_makes_progress(monkeypatch: pytest.MonkeyPatch):
    shown = await wait_for(Roles(busy_looks=1_000), 100, monkeypatch)
    assert shown.startswith("waiting for sidecar (")


async def test_a_start_without_progress_is_given_up_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ServerDied, match=r"not ready after \d+ s: sidecar; see the logs in"):
        await wait_for(Roles(busy_looks=20), float("inf"), monkeypatch)
