"""Brings Compose up, kills every container, and restores a backup: `make check-compose [WITH=FILE]`.

It builds the image `screener:check` unless `make check-image` has. It needs Docker with Compose 2, the right to kill
processes of containers, and images: from the registries, or from WITH, a Compose file with other ones
(checks/substitutes). The exchange is the simulated one. It fails where a service does not become healthy or is not
restarted by its restart policy, where alerts or minutes are missing afterwards, or where a backup script fails or its
backup restores different rows.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from troubles import INCOMPLETE, PASSWORDS, eventually

DEPLOY = Path(__file__).parents[1]
SERVERS = ("kafka", "nats", "redis", "timescaledb")
WRITERS = ("feed", "bridge", "collector", "calculator", "alerts", "market", "sinks", "webhooks", "sidecar")
ONE_SHOT = {"migrate"}
START_S = 600
TABLES = "SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public' ORDER BY 1"


@dataclass(frozen=True, slots=True)
class Container:
    service: str
    number: str
    pid: int
    health: str
    """Empty without a health check."""

    @property
    def is_well(self) -> bool:
        return self.pid > 0 and self.health in {"", "healthy"}


@dataclass(frozen=True, slots=True)
class Compose:
    command: tuple[str, ...]
    environ: Mapping[str, str]

    def run(self, *arguments: str | Path, said: bool = True) -> str:
        """Run Compose and return its stdout. Without `said` it writes to this program's stdout instead."""
        command = [*self.command, *map(str, arguments)]
        output = subprocess.PIPE if said else None
        done = subprocess.run(command, check=False, stdout=output, text=True, env=self.environ)
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout or ''}")
        return (done.stdout or "").strip()

    def containers(self) -> dict[str, Container]:
        numbers = self.run("ps", "--all", "--quiet").split()
        found = json.loads(docker("inspect", *numbers))
        made = [_container(entry) for entry in found]
        return {one.service: one for one in made if one.service not in ONE_SHOT}

    def sql(self, statement: str, database: str = "screener") -> str:
        psql = ("psql", "--host=127.0.0.1", "--username=screener", "--dbname", database, "-tAc", statement)
        password = f"PGPASSWORD={self.environ['POSTGRES_PASSWORD']}"
        return self.run("exec", "-T", "--env", password, "timescaledb", *psql)


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def _container(entry: dict[str, dict[str, dict[str, str]]]) -> Container:
    state: Mapping[str, object] = entry["State"]
    health = entry["State"].get("Health") or {}
    return Container(
        entry["Config"]["Labels"]["com.docker.compose.service"],
        str(entry["Id"]),
        int(str(state["Pid"])),
        str(health.get("Status", "")),
    )


@contextmanager
def running() -> Iterator[Compose]:
    """Start all services; yield when they are healthy. Remove them and their volumes at the end; after a failure, print
    the end of each log first."""
    files = [DEPLOY / f"compose{name}.yaml" for name in ("", ".simulated", ".backup")]
    files += [Path(os.environ["WITH"])] if os.environ.get("WITH") else []
    with tempfile.TemporaryDirectory() as folder:
        # variables of this shell would override those of a file
        given = {name: secrets.token_hex(24) for name in PASSWORDS} | {"SCREENER_VERSION": "check"}
        (Path(folder) / "empty.env").touch()
        options = [part for file in files for part in ("--file", str(file))]
        options += [
            "--env-file",
            str(Path(folder) / "empty.env"),
            "--project-name",
            f"screener-check-{os.getpid()}",
        ]
        compose = Compose(("docker", "compose", *options), os.environ | given)
        try:
            compose.run("up", "--detach", "--wait", "--wait-timeout", str(START_S), said=False)
            yield compose
        except BaseException:
            compose.run("ps", "--all", said=False)
            compose.run("logs", "--tail", "30", said=False)
            raise
        finally:
            compose.run("down", "--volumes", "--timeout", "40", said=False)


def kill(compose: Compose, services: set[str]) -> None:
    """Kill the processes of services, as a crash does, and wait until they are back. After `docker kill`, a stop by
    hand, no policy would restart them."""
    before = {name: one for name, one in compose.containers().items() if name in services}
    for one in before.values():
        as_root = [] if os.geteuid() == 0 else ["sudo"]
        subprocess.run([*as_root, "kill", "-9", str(one.pid)], check=True)

    def are_back() -> bool:
        now = compose.containers()
        return all(now[name].is_well and now[name].pid != one.pid for name, one in before.items())

    took_s = eventually(f"{', '.join(sorted(services))} after kill -9", are_back)
    print(f"killed {', '.join(sorted(services))}: back after {took_s:.0f} s", flush=True)


def number(compose: Compose, statement: str) -> float:
    return float(compose.sql(statement) or 0)


def require_all_goes_on(compose: Compose) -> None:
    """Require new alerts and minutes, and none missing before them."""
    alerts = number(compose, "SELECT count(*) FROM alert_history")
    at_s = time.time()
    newest = "SELECT extract(epoch FROM max(time)) FROM candles_1m"
    eventually("a minute after this one", lambda: number(compose, newest) > at_s, 300)
    eventually("new alerts", lambda: number(compose, "SELECT count(*) FROM alert_history") > alerts, 300)
    eventually("every minute of every symbol", lambda: number(compose, INCOMPLETE) == 0, 180)
    stored = compose.sql("SELECT count(*), count(DISTINCT symbol) FROM candles_1m").replace(
        "|", " minutes of "
    )
    print(f"alerts arrive; {stored} symbols are stored, none is missing", flush=True)


def require_backups(compose: Compose) -> None:
    """Require new backups; restore the database's into a second database and compare the rows. For the other servers
    tests/integration/test_backup_scripts.py does that."""
    jobs = sorted(service for service in compose.containers() if service.startswith("backup-"))
    compose.run("stop", *WRITERS, said=False)
    began_s = time.time()
    compose.run("restart", *jobs, said=False)
    eventually("a new backup of each server", lambda: len(new_backups(compose, began_s)) == len(jobs))
    tables = compose.sql(TABLES).split()
    counts = {table: compose.sql(f'SELECT count(*) FROM "{table}"') for table in tables}
    restore(compose)
    again = {table: compose.sql(f'SELECT count(*) FROM "{table}"', "restored") for table in tables}
    if again != counts:
        sys.exit(f"restored other rows: {again}, not {counts}")
    print(f"{', '.join(jobs)}: written; the database's brings back its rows: {counts}", flush=True)


def new_backups(compose: Compose, began_s: float) -> list[str]:
    """Return the names of the backups that succeeded since `began_s`, by their pages for Prometheus."""
    success = re.compile(r'^screener_backup_last_success_timestamp_seconds{backup="(\w+)"} (\d+)$', re.M)
    return [
        name
        for name, at_s in success.findall(said(compose, "cat /metrics/*.prom"))
        if int(at_s) >= int(began_s)
    ]


def restore(compose: Compose) -> None:
    """Restore the newest dump of the database into a second database."""
    compose.sql("CREATE DATABASE restored")
    has_timescale = compose.sql("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'") == "1"
    if has_timescale:
        compose.sql("CREATE EXTENSION IF NOT EXISTS timescaledb", "restored")
        compose.sql("SELECT timescaledb_pre_restore()", "restored")
    newest = '"$(ls -t /backups/postgres/*.dump | head -n 1)"'
    said(compose, f'pg_restore --dbname "${{SERVER_URL%/screener}}/restored" {newest}')
    if has_timescale:
        compose.sql("SELECT timescaledb_post_restore()", "restored")


def said(compose: Compose, script: str) -> str:
    """Run a script in the container of the database's backups; return its output."""
    return compose.run("exec", "-T", "backup-postgres", "sh", "-c", script)


def main() -> None:
    began_s = time.monotonic()
    with running() as compose:
        services = set(compose.containers())
        print(f"up after {time.monotonic() - began_s:.0f} s: {', '.join(sorted(services))}", flush=True)
        require_all_goes_on(compose)
        for server in SERVERS:
            kill(compose, {server})
        kill(compose, services - set(SERVERS))
        require_all_goes_on(compose)
        require_backups(compose)
    print("Compose is sound")


if __name__ == "__main__":
    main()
