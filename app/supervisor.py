"""The role processes of one machine: started, watched, restarted, stopped."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
from pydantic import SecretStr

from app.errors import ServerDied
from app.exit_status import EXIT_CONFIG, EXIT_TEMPORARY
from app.settings import PREFIX, Settings
from app.stack.process import ChildProcess, stop_all

WORKER_ROLES: Final = ("collector", "calculator", "alerts", "all")
_FIRST_BACKOFF_S = 0.2
_LONGEST_BACKOFF_S = 10.0
_CALM_S = 60.0
"""After so long without an end, the next one is restarted at once again."""
_QUICK_S = 10.0
_QUICK_ENDS = 8
_POLL_S = 0.1
_STOP_TIMEOUT_S = 20.0

log = structlog.get_logger("supervisor")


def role_argv(role: str) -> list[str]:
    """The command line that runs a role."""
    if role in WORKER_ROLES:
        faust = [sys.executable, "-m", "faust", "-A", f"app.main:{role}", "-L", "uvloop"]
        # at its default level Faust shows a spinner, for which it sets the root logger to debug
        return [*faust, "worker", "--without-web", "-l", "info"]
    return [sys.executable, "-m", "app", "run", role]


def role_environ(settings: Settings) -> dict[str, str]:
    """This process's environment with every setting of `settings` made explicit."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    for name, value in settings.model_dump(exclude_none=True).items():
        environ[f"{PREFIX}{name.upper()}"] = _as_text(value)
    environ |= settings.server_urls().as_environ()
    # frames are small: more threads of linear algebra would only take the core from the next process
    for library in ("OMP", "OPENBLAS"):
        environ.setdefault(f"{library}_NUM_THREADS", "1")
    package_root = str(Path(__file__).resolve().parent.parent)
    environ["PYTHONPATH"] = os.pathsep.join([package_root, *filter(None, [environ.get("PYTHONPATH")])])
    return environ


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


@dataclass(slots=True)
class _Role:
    process: ChildProcess
    restarts: int = 0
    quick_ends: int = 0
    """Ends in a row soon after the start, those for want of a server not counted."""
    started_s: float = 0.0
    backoff_s: float = field(default_factory=lambda: _FIRST_BACKOFF_S)
    restarting: asyncio.Task[None] | None = None


@dataclass(slots=True)
class RoleProcesses:
    """Runs `roles`, each in a process of its own with a log under `log_dir`.

    A role that ends by itself is started again, after a wait that doubles (with jitter, up to 10 s). One that
    says it cannot run as it is set up (exit status 78), or that ends eight times in a row within seconds of its start
    other than for want of a server (75), is not: `watch` raises ServerDied with its words.
    """

    settings: Settings
    log_dir: Path
    roles: Sequence[str]
    argv: Callable[[str], Sequence[str]] = role_argv
    """The command line of a role."""
    _running: dict[str, _Role] = field(default_factory=dict)

    def start(self) -> None:
        environ = role_environ(self.settings)
        for role in self.roles:
            process = ChildProcess(role, self.argv(role), self.log_dir / f"{role}.log", env=environ)
            self._running[role] = _Role(process, started_s=asyncio.get_running_loop().time())
            process.start()

    @property
    def processes(self) -> Mapping[str, ChildProcess]:
        return {name: role.process for name, role in self._running.items()}

    @property
    def restarts(self) -> int:
        return sum(role.restarts for role in self._running.values())

    async def watch(self) -> None:
        """Restarts what ends, until cancelled. Raises ServerDied for a role that cannot be run."""
        while True:
            for name, role in self._running.items():
                if role.restarting:
                    if not role.restarting.done():
                        continue
                    # raises what kept it from being started, such as a log that cannot be written
                    role.restarting.result()
                    role.restarting = None
                code = role.process.poll()
                if code is None:
                    continue
                self._count_quick_end(role, code)
                if code == EXIT_CONFIG or role.quick_ends >= _QUICK_ENDS:
                    raise ServerDied(role.process.describe_end())
                role.restarting = asyncio.create_task(self._restart(name, role), name=f"restart-{name}")
            await asyncio.sleep(_POLL_S)

    @staticmethod
    def _count_quick_end(role: _Role, code: int) -> None:
        quick = asyncio.get_running_loop().time() - role.started_s < _QUICK_S
        role.quick_ends = role.quick_ends + 1 if quick and code != EXIT_TEMPORARY else 0

    async def _restart(self, name: str, role: _Role) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - role.started_s > _CALM_S:
            role.backoff_s = _FIRST_BACKOFF_S
        wait_s = role.backoff_s * random.uniform(0.8, 1.2)  # noqa: S311  # reason: jitter
        log.warning("role_ended", role=name, code=role.process.poll(), restart_in_s=round(wait_s, 2))
        await asyncio.sleep(wait_s)
        role.backoff_s = min(2 * role.backoff_s, _LONGEST_BACKOFF_S)
        role.restarts += 1
        role.started_s = asyncio.get_running_loop().time()
        role.process.start()

    async def stop_role(self, name: str) -> None:
        """Asks one role to stop and waits. Cancel `watch` first."""
        role = self._running.get(name)
        if role is not None:
            await asyncio.to_thread(role.process.stop, _STOP_TIMEOUT_S)

    async def stop(self) -> None:
        """Asks all to stop and waits, at most 20 s; leaves no process. Cancel `watch` first."""
        restarting = [role.restarting for role in self._running.values() if role.restarting]
        for task in restarting:
            task.cancel()
        await asyncio.gather(*restarting, return_exceptions=True)
        await asyncio.to_thread(stop_all, [role.process for role in self._running.values()], _STOP_TIMEOUT_S)
