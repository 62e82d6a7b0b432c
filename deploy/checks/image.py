"""Builds the image and runs every role in it as a cluster would: `make check-image [BASE=IMAGE]`.

The containers have no root, no capabilities, and no writable folder. The servers are those of the extra `local`, on
loopback. It fails where a role does not become ready, computes nothing, or does not shut down cleanly, and where the
image is too large.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from container_engine import Engine

from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import free_port
from app.telemetry.catalogue import ROLE_PORTS

ROOT = Path(__file__).parents[2]
IMAGE = "screener:check"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
ADDED_LIMIT_BYTES = 400_000_000
"""The limit for the layers on top of the base, because the builder chooses the base."""
USER = 10001
ROLES = ("exchange", *ROLE_PORTS)
START_S = 240.0
STOP_S = 40


@dataclass(frozen=True, slots=True)
class Containers:
    engine: Engine
    environ: Mapping[str, str]
    prefix: str

    def start(self, role: str, *command: str) -> None:
        self.engine.start(f"{self.prefix}{role}", IMAGE, self.environ, command)

    def state(self, role: str) -> dict[str, object]:
        return dict(json.loads(self.engine.run("inspect", "--format", "{{json .State}}", self.prefix + role)))

    def log(self, role: str) -> str:
        return self.engine.log(self.prefix + role)

    def wait(self, role: str, condition: Callable[[], object]) -> float:
        """Wait for a condition; return the seconds. Ends this program when the container ends, or takes too long."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < START_S:
            with suppress(OSError):
                if condition():
                    return time.monotonic() - began_s
            if self.state(role)["Status"] == "exited":
                break
            time.sleep(0.5)
        sys.exit(
            f"{role}: not there after {time.monotonic() - began_s:.0f} s, {self.state(role)}\n{self.log(role)}"
        )

    def finished(self, role: str, *command: str) -> None:
        """Run a container to its end. Ends this program unless its status is 0."""
        self.start(role, *command)
        if self.engine.run("wait", self.prefix + role) != "0":
            sys.exit(f"{role} did not end well: {self.state(role)}\n{self.log(role)}")

    def require_no_rights(self, role: str) -> None:
        script = "import os; print(open('/proc/1/status').read(), os.access('/', os.W_OK), os.access('/opt', os.W_OK))"
        said = self.engine.run("exec", self.prefix + role, "python", "-c", script).splitlines()
        fields = dict(line.split(":\t", 1) for line in said[:-1] if ":\t" in line)
        found = (
            fields["Uid"].split("\t")[0],
            fields["CapEff"],
            fields["CapBnd"],
            fields["NoNewPrivs"],
            said[-1].strip(),
        )
        if found != (str(USER), "0" * 16, "0" * 16, "1", "False False"):
            sys.exit(f"{role} has rights: user, capabilities, new privileges, writable folders: {found}")

    def stop(self, role: str) -> float:
        """Stop a role; return the seconds it took. Ends this program unless the role ended by itself, with status 0."""
        began_s = time.monotonic()
        self.engine.run("stop", "--time", str(STOP_S), self.prefix + role)
        if self.state(role)["ExitCode"] != 0:
            sys.exit(f"{role} ended with {self.state(role)['ExitCode']} when asked to stop\n{self.log(role)}")
        return time.monotonic() - began_s

    def remove(self) -> None:
        for name in self.engine.run("ps", "--all", "--format", "{{.Names}}").split():
            if name.startswith(self.prefix):
                self.engine.run("rm", "--force", "--volumes", name)


def answers(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)


def main() -> None:
    engine, base = Engine.found(), os.environ.get("BASE") or None
    began_s = time.monotonic()
    engine.build(DOCKERFILE, ROOT, IMAGE, base)
    print(f"built in {time.monotonic() - began_s:.0f} s", flush=True)
    require_size(engine, base or default_base())
    with tempfile.TemporaryDirectory() as folder, EmbeddedStack.start(Path(folder) / "servers") as stack:
        ports = {role: free_port() for role in (*ROLES, "sidecar_metrics")}
        containers = Containers(engine, settings(stack.urls, ports), f"screener-check-{os.getpid()}-")
        try:
            run_roles(containers, ports)
        finally:
            containers.remove()
    print("the image is sound")


def default_base() -> str:
    line = next(line for line in DOCKERFILE.read_text().splitlines() if line.startswith("ARG BASE="))
    return line.removeprefix("ARG BASE=")


def require_size(engine: Engine, base: str) -> None:
    whole, below = engine.size_bytes(IMAGE), engine.size_bytes(base)
    print(f"size: {whole / 1e6:.0f} MB, of which {(whole - below) / 1e6:.0f} MB on top of the base")
    if whole - below > ADDED_LIMIT_BYTES:
        sys.exit(f"too large: the image adds more than {ADDED_LIMIT_BYTES / 1e6:.0f} MB to its base")


def settings(urls: Mapping[str, str], ports: Mapping[str, int]) -> dict[str, str]:
    """Return the variables of every role: the given servers, a simulated exchange, loopback only."""
    values: dict[str, object] = {f"{server}_url": url for server, url in urls.items()}
    values |= {f"{role}_port": port for role, port in ports.items() if role != "exchange"}
    values |= {
        "sim_exchange_port": ports["exchange"],
        "exchange_rest_url": f"http://127.0.0.1:{ports['exchange']}",
        "exchange_ws_url": f"ws://127.0.0.1:{ports['exchange']}/market/stream",
        "simulated_symbols": 12,
        "bind_host": "127.0.0.1",
        "jwt_secret": os.urandom(32).hex(),
        "partitions": 2,
        "replication_factor": 1,
    }
    return {f"SCREENER_{name.upper()}": str(value) for name, value in values.items()}


def run_roles(containers: Containers, ports: Mapping[str, int]) -> None:
    containers.finished("migrate", "migrate")
    pages = {role: f"http://127.0.0.1:{ports[role]}/health/ready" for role in ROLES[1:]}
    pages["exchange"] = f"http://127.0.0.1:{ports['exchange']}/fapi/v1/ping"
    for role in ROLES:
        containers.start(role, "run", role)
        if role == "exchange":
            containers.wait(role, lambda: answers(pages["exchange"]))
    for role in ROLES:
        containers.wait(role, lambda role=role: answers(pages[role]))
        containers.require_no_rights(role)
        print(f"{role}: ready, user {USER}, no capabilities, nothing writable", flush=True)
    market = f"http://127.0.0.1:{ports['sidecar']}/api/metrics/BTCUSDT"
    containers.wait("sidecar", lambda: answers(market))
    print("metrics of BTCUSDT arrived at the sidecar", flush=True)
    for role in reversed(ROLES):
        print(f"{role}: ended in order within {containers.stop(role):.1f} s", flush=True)


if __name__ == "__main__":
    main()
