"""The role processes of one machine: started, watched, restarted, stopped."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
from pydantic import SecretStr

import app
from app.errors import ServerDied
from app.process.children.child import ChildProcess, stop_all
from app.process.children.restarts import Restarts
from app.process.exit_status import EXIT_CONFIG, EXIT_TEMPORARY
from app.settings import PREFIX, Settings

WORKER_ROLES: Final = ("collector", "calculator", "alerts", "all")
_POLL_S = 0.1
_STOP_TIMEOUT_S = 20.0
_PAUSE_TIMEOUT_S = 3.0
"""For roles whose broker is gone: they cannot finish any work."""

log = structlog.get_logger("supervisor")


def role_argv(role: str) -> list[str]:
    """Return the command line that runs a role."""
    if role in WORKER_ROLES:
        # quiet: Faust's banner is no line of the log, in JSON least of all
        faust = [sys.executable, "-m", "faust", "--quiet", "-A", f"app.main:{role}", "-L", "uvloop"]
        # at its default level Faust shows a spinner, for which it sets the root logger to debug
        return [*faust, "worker", "--without-web", "-l", "info"]
    return [sys.executable, "-m", "app", "run", role]


def role_environ(settings: Settings) -> dict[str, str]:
    """Return this process's environment with every setting of `settings` made explicit."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    for name, value in settings.model_dump(exclude_none=True).items():
        environ[f"{PREFIX}{name.upper()}"] = _as_text(value)
    environ |= settings.servers_environ()
    # frames are small: more threads of linear algebra would only take the core from the next process
    for library in ("OMP", "OPENBLAS"):
        environ.setdefault(f"{library}_NUM_THREADS", "1")
    package_root = str(Path(app.__file__).parents[1])
    environ["PYTHONPATH"] = os.pathsep.join([package_root, *filter(None, [environ.get("PYTHONPATH")])])
    return environ


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


@dataclass(slots=True)
class _Role:
    process: ChildProcess
    restarts: Restarts
    restarting: asyncio.Task[None] | None = None
    paused: bool = False


@dataclass(slots=True)
class RoleProcesses:
    """Runs `roles`, each in a process of its own with a log under `log_dir`.

    A role that ends by itself is restarted, after a wait that doubles (with jitter, up to 10 s). But for a role that
    reports a wrong setup (exit status 78), or that ends eight times in a row within seconds of its start, other than
    because a server is down (75), `watch` raises ServerDied with the end of its log.
    """

    environ: Mapping[str, str] = field(repr=False)
    """The environment of every process: see `role_environ`."""
    log_dir: Path
    roles: Sequence[str]
    argv: Callable[[str], Sequence[str]] = role_argv
    """The command line of a role."""
    _running: dict[str, _Role] = field(default_factory=dict)

    def start(self) -> None:
        for role in self.roles:
            process = ChildProcess(role, self.argv(role), self.log_dir / f"{role}.log", env=self.environ)
            self._running[role] = _Role(process, Restarts(asyncio.get_running_loop().time()))
            process.start()

    @property
    def processes(self) -> Mapping[str, ChildProcess]:
        return {name: role.process for name, role in self._running.items()}

    @property
    def restarts(self) -> int:
        return sum(role.restarts.count for role in self._running.values())

    def work_done(self) -> tuple[int, ...]:
        """Return per role the bytes of its log and whole seconds of CPU, which grow while a start makes progress."""
        done = [role.process.work_done() for role in self._running.values()]
        return tuple(number for log_bytes, busy_s in done for number in (log_bytes, int(busy_s)))

    async def watch(self) -> None:
        """Restart ended roles, until cancelled. Raises ServerDied for a role that cannot run."""
        while True:
            for name, role in self._running.items():
                if role.paused:
                    continue
                if role.restarting:
                    if not role.restarting.done():
                        continue
                    # raises the error that kept it from starting, for example a log that cannot be written
                    role.restarting.result()
                    role.restarting = None
                code = role.process.poll()
                if code is None:
                    continue
                now_s = asyncio.get_running_loop().time()
                role.restarts.note_end(now_s, excused=code == EXIT_TEMPORARY)
                if code == EXIT_CONFIG or role.restarts.hopeless:
                    raise ServerDied(role.process.describe_end())
                role.restarting = asyncio.create_task(self._restart(name, role), name=f"restart-{name}")
            await asyncio.sleep(_POLL_S)

    async def _restart(self, name: str, role: _Role) -> None:
        loop = asyncio.get_running_loop()
        wait_s = role.restarts.wait_s(loop.time())
        log.warning("role_ended", role=name, code=role.process.poll(), restart_in_s=round(wait_s, 2))
        await asyncio.sleep(wait_s)
        role.restarts.note_start(loop.time())
        role.process.start()

    async def pause(self, names: Collection[str]) -> None:
        """Stop these roles until `resume`."""
        paused = [role for name, role in self._running.items() if name in names]
        for role in paused:
            role.paused = True
        await self._leave_alone(paused)
        await asyncio.to_thread(stop_all, [role.process for role in paused], _PAUSE_TIMEOUT_S)

    def resume(self, names: Collection[str]) -> None:
        for name, role in self._running.items():
            if name in names and role.paused:
                role.restarts.note_start(asyncio.get_running_loop().time())
                role.process.start()
                role.paused = False

    @staticmethod
    async def _leave_alone(roles: Sequence[_Role]) -> None:
        restarting = [role.restarting for role in roles if role.restarting]
        for task in restarting:
            task.cancel()
        await asyncio.gather(*restarting, return_exceptions=True)
        for role in roles:
            role.restarting = None

    async def stop_role(self, name: str) -> None:
        """Ask one role to stop and wait. Cancel `watch` first."""
        role = self._running.get(name)
        if role is not None:
            await asyncio.to_thread(role.process.stop, _STOP_TIMEOUT_S)

    async def stop(self) -> None:
        """Ask all to stop and wait, at most 20 s; leave no process. Cancel `watch` first."""
        await self._leave_alone([*self._running.values()])
        await asyncio.to_thread(stop_all, [role.process for role in self._running.values()], _STOP_TIMEOUT_S)
