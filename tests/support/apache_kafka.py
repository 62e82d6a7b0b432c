"""Apache Kafka itself, one KRaft node on loopback, from its Maven artifacts: needs Java 17 and Maven."""

from __future__ import annotations

import asyncio
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import platformdirs
import pytest

from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import LOOPBACK, free_port, listens
from app.process.children.child import ChildProcess
from app.process.health.probes import probe_kafka
from app.settings import Settings
from tests.support.eventually import eventually
from tests.support.programs import need_programs
from tests.support.servers import settings_for

VERSION = "TEST_KAFKA_VERSION"
"""The environment variable for the version of the broker that tests start."""
_VERSION = "4.1.1"
_DOWNLOAD_TIMEOUT_S = 600.0
_FORMAT_TIMEOUT_S = 60.0
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_CLUSTER_ID = "c2NyZWVuZXItdGVzdHMtMQ"
# A small heap that starts fast; logging to the process's log file.
_JAVA_OPTIONS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)

_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>screener.tests</groupId>
  <artifactId>apache-kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


class ApacheKafka:
    """A broker that stores its data in `directory`. It keeps its port and its data when it is stopped and restarted."""

    def __init__(
        self,
        directory: Path,
        jars: Path,
        *,
        properties: Mapping[str, str] | None = None,
        format_with: Sequence[str] = (),
        port: int | None = None,
    ) -> None:
        """properties: added to those of `_properties`, or in place of them. format_with: more arguments for
        StorageTool. port: of the unencrypted listener."""
        self._port = port or free_port()
        self.url = f"{LOOPBACK}:{self._port}"
        """host:port"""
        self._properties = directory / "server.properties"
        plain = _properties(directory / "data", self._port, free_port())
        self._properties.write_text(
            plain + "".join(f"{key}={text}\n" for key, text in (properties or {}).items())
        )
        java = ("java", *_JAVA_OPTIONS, "-cp", f"{jars}/*")
        arguments = ("format", "--cluster-id", _CLUSTER_ID, "--config", self._properties, *format_with)
        format_data = ChildProcess(
            "Kafka's StorageTool", (*java, "kafka.tools.StorageTool", *arguments), directory / "format.log"
        )
        _run(format_data, _FORMAT_TIMEOUT_S)
        self.process = ChildProcess(
            "Apache Kafka", (*java, "kafka.Kafka", self._properties), directory / "kafka.log"
        )

    def start(self) -> None:
        """Start the broker and wait until it answers a metadata request."""
        self.process.start()
        with ThreadPoolExecutor(max_workers=1) as pool:  # the caller may be inside a running event loop
            pool.submit(asyncio.run, eventually(self._answers, _START_TIMEOUT_S)).result()

    async def _answers(self) -> bool:
        assert self.process.poll() is None, self.process.describe_end()
        if not listens(self.process.pid or 0, self._port):
            return False
        try:
            await probe_kafka(self.url)
        except Exception:
            return False
        return True

    def stop(self) -> None:
        """Shut the broker down cleanly."""
        self.process.stop(_STOP_TIMEOUT_S)

    def kill(self) -> None:
        """End the broker with SIGKILL."""
        self.process.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()


@pytest.fixture(scope="session")
def kafka_jars() -> Path:
    """The folder of Apache Kafka's jars. Skips the test where Java or Maven is missing."""
    need_programs(("java", "mvn"), "Apache Kafka", "openjdk-17-jre-headless and maven")
    return kafka_jars_of(os.environ.get(VERSION, _VERSION))


@pytest.fixture(scope="session")
def apache_kafka(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """A running broker shared by the tests marked `kafka`; a test that stops it starts it again."""
    with ApacheKafka(tmp_path_factory.mktemp("apache-kafka"), kafka_jars) as running:
        yield running


@pytest.fixture
def apache_kafka_settings(stack: EmbeddedStack, apache_kafka: ApacheKafka) -> Settings:
    """Like `settings`, with Apache Kafka as the broker."""
    return settings_for(stack.urls | {"kafka": apache_kafka.url})


def kafka_jars_of(version: str) -> Path:
    """Return the folder of Kafka's jars, which Maven downloads once into the user's cache."""
    cache = platformdirs.user_cache_path("screener-tests", ensure_exists=True)
    jars = cache / f"apache-kafka-{version}"
    # two Maven processes at once would share its local repository
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():
            _download(version, cache, jars)
    return jars


def _download(version: str, cache: Path, jars: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache) as workspace:
        (Path(workspace) / "pom.xml").write_text(_POM.format(version=version))
        maven = ChildProcess(
            "Maven",
            ("mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=jars"),
            cache / "maven.log",
            cwd=Path(workspace),
        )
        _run(maven, _DOWNLOAD_TIMEOUT_S)
        # an atomic rename: an interrupted download never leaves half a folder
        (Path(workspace) / "jars").rename(jars)


def _run(process: ChildProcess, timeout_s: float) -> None:
    process.start()
    try:
        process.wait(timeout_s)
        assert process.poll() == 0, process.describe_end()
    finally:
        process.kill()


def _properties(data: Path, port: int, controller_port: int) -> str:
    return "\n".join(
        (
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@{LOOPBACK}:{controller_port}",
            f"listeners=PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
            f"advertised.listeners=PLAINTEXT://{LOOPBACK}:{port}",
            "controller.listener.names=CONTROLLER",
            f"log.dirs={data}",
            "auto.create.topics.enable=false",
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=1",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "transaction.state.log.num.partitions=1",
            "group.initial.rebalance.delay.ms=0",
            # a restarted broker can register only once its former session has ended, by default after 9 s
            "broker.session.timeout.ms=2000",
            "broker.heartbeat.interval.ms=250",
            "",
        )
    )
