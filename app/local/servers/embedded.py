"""Our own servers, from Python wheels, on loopback, in one directory: for laptops and tests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from app.errors import PortTaken, ServerDied, ServerUnreachable
from app.local.servers.catalogue import SERVERS, Launch, Server
from app.local.servers.orphans import end_orphans, record
from app.local.servers.ports import LOOPBACK, free_port, listens, require_free_port
from app.local.servers.running import DirectoryLock, forget_urls, tell_urls
from app.process.children.child import ChildProcess, stop_all
from app.process.health.probes import PROBES
from app.process.private_files import PRIVATE_MODE
from app.process.tasks import together

ALL_SERVERS = tuple(SERVERS)
_SILENT_S = 60.0
"""A server that neither answers nor does any work for this long will not start."""
_START_LIMIT_S = 900.0
_STOP_TIMEOUT_S = 10.0
_PORT_ATTEMPTS = 5
_POLL_S = 0.02
_PROBE_TIMEOUT_S = 10.0


@dataclass(slots=True)
class _Running:
    server: Server
    port: int
    launch: Launch
    process: ChildProcess
    fault: ServerDied | None = None


class EmbeddedStack:
    """Started servers. Use it as a context manager, or call `stop`.

    NATS, Redis and PostgreSQL keep their data in the directory; Kafka topics are lost when the broker stops. `urls`
    maps the names "nats", "redis", "postgres" and "kafka" (of the started servers) to URLs, as
    `app.settings.ServerUrls` takes them. The URLs contain passwords: never print them.
    """

    def __init__(self, directory: Path, lock: DirectoryLock) -> None:
        """Use `EmbeddedStack.start`."""
        self.directory = directory
        self._lock = lock
        self._running: dict[str, _Running] = {}
        self._stopping = threading.Event()
        self._changing = threading.Lock()
        """Held while a process is started: no process may be started after the stop."""

    @classmethod
    def start(
        cls,
        directory: Path,
        servers: Collection[str] = ALL_SERVERS,
        ports: Mapping[str, int] | None = None,
    ) -> Self:
        """Start `servers` in parallel and return when each answers in its own protocol.

        `ports` fixes some ports, the others are any free ones. Raises ServerMissing, PortTaken, ServerDied,
        ServerUnreachable (it did not answer, and did nothing for a minute), or ServerError when another process runs
        servers in `directory`; then nothing is left running.
        """
        directory = directory.resolve()
        stack = cls(directory, DirectoryLock(directory))
        try:
            end_orphans(directory)
            stack._start(servers, ports or {})
        except BaseException:
            stack.stop()
            raise
        return stack

    @property
    def urls(self) -> dict[str, str]:
        return {name: running.launch.url for name, running in self._running.items()}

    @property
    def processes(self) -> dict[str, ChildProcess]:
        return {name: running.process for name, running in self._running.items()}

    def faults(self) -> tuple[ServerDied, ...]:
        """Return one error for each server that ended without being asked to, with its exit code and end of log."""
        return tuple(fault for name in self._running if (fault := self.fault(name)) is not None)

    def restart(self, name: str) -> None:
        """Restart a server that ended, on the same port and with its data; return when it answers.

        Raises PortTaken, ServerDied, or ServerUnreachable. Harmless during and after `stop`.
        """
        self._launch(name, self._running[name].port)
        asyncio.run(self._ready(name, port_is_fixed=True))

    def stop(self) -> None:
        """Stop all servers cleanly, leaving no process. Harmless to repeat."""
        self.faults()
        with self._changing:
            self._stopping.set()
        stop_all(self.processes.values(), _STOP_TIMEOUT_S)
        if not self._lock.released:
            forget_urls(self.directory)
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, servers: Collection[str], ports: Mapping[str, int]) -> None:
        for name in servers:
            if name in ports:
                _require_port(name, ports[name])
        # Servers with nothing to prepare come up while PostgreSQL makes its data directory.
        for name in sorted(servers, key=lambda name: name == "postgres"):
            directory = self.directory / name
            directory.mkdir(mode=PRIVATE_MODE, exist_ok=True)
            SERVERS[name].prepare(directory)
            self._launch(name, ports.get(name) or free_port())
        with ThreadPoolExecutor(max_workers=1) as pool:
            # In a thread of its own, because the caller may be inside a running event loop.
            waiting = pool.submit(asyncio.run, self._all_ready(frozenset(ports)))
            try:
                waiting.result()
            except BaseException:
                self._stopping.set()
                raise
        record(self.directory, self.processes.values())
        tell_urls(self.directory, self.urls)

    def _launch(self, name: str, port: int) -> None:
        server = SERVERS[name]
        launch = server.launch(self.directory / name, port)
        process = ChildProcess(
            server.title,
            launch.argv,
            self.directory / f"{name}.log",
            env=launch.environ,
            identity=launch.identity,
            stop_signal=launch.stop_signal,
            death_signal=launch.stop_signal,
        )
        with self._changing:
            if self._stopping.is_set():
                return
            self._running[name] = _Running(server, port, launch, process)
            process.start()
        record(self.directory, self.processes.values())

    async def _all_ready(self, fixed_ports: Collection[str]) -> None:
        await together(*(self._ready(name, name in fixed_ports) for name in self._running))

    async def _ready(self, name: str, port_is_fixed: bool) -> None:
        """Wait until our own process listens and answers; if another program has taken its port, try another port."""
        for attempt in range(_PORT_ATTEMPTS):
            try:
                await self._answers(name)
                return
            except PortTaken:
                if port_is_fixed or attempt == _PORT_ATTEMPTS - 1:
                    raise
                self._launch(name, free_port())

    async def _answers(self, name: str) -> None:
        """Wait until the server answers. Raises ServerUnreachable when it has done no work for a minute: a busy machine
        only makes it slower."""
        running = self._running[name]
        began_s = moved_s = time.monotonic()
        seen = running.process.work_done()
        while not self._stopping.is_set():
            if running.process.poll() is not None:
                _require_port(name, running.port)
                raise ServerDied(f"it did not start: {running.process.describe_end()}")
            if listens(running.process.pid or 0, running.port):
                try:
                    async with asyncio.timeout(_PROBE_TIMEOUT_S):
                        await PROBES[name](running.launch.url)
                    return
                except Exception:  # noqa: S110  # it may still be starting
                    pass
            now_s, done = time.monotonic(), running.process.work_done()
            if done != seen:
                seen, moved_s = done, now_s
            if now_s - moved_s > _SILENT_S or now_s - began_s > _START_LIMIT_S:
                raise ServerUnreachable(
                    f"no answer within {now_s - began_s:.0f} s of its start: {running.process.describe_end()}"
                )
            await asyncio.sleep(_POLL_S)

    def fault(self, name: str) -> ServerDied | None:
        """Return how a server ended without being asked to; None while it runs."""
        running = self._running[name]
        if running.fault is None and not self._stopping.is_set() and running.process.poll() is not None:
            running.fault = ServerDied(
                f"{running.process.describe_end()}\n"
                f"start the screener again, or set {running.server.setting} to your own server"
            )
        return running.fault


def _require_port(name: str, port: int) -> None:
    server = SERVERS[name]
    require_free_port(
        port,
        server.title,
        f"stop that program, or give {name} another port, or, to use that server, "
        f"set {server.setting} to its URL ({LOOPBACK}:{port})",
    )
