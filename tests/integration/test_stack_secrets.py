"""Servers of `screener up` serve its user alone: passwords in files that nobody else can read, and nowhere else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import nats.errors
import psutil
import psycopg
import pytest
import redis
from aiokafka.errors import KafkaError

from app.cli.servers import settings_here
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.running import urls_of_running
from app.process.children.supervisor import role_environ
from app.process.health.probes import probe_kafka, probe_nats
from app.settings import Settings
from app.wire.kafka import client_options

SERVERS = ("nats", "redis", "postgres", "kafka")


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[EmbeddedStack]:
    with EmbeddedStack.start(tmp_path / "data", SERVERS) as running:
        yield running


def split(url: str) -> SplitResult:
    return urlsplit(url if "://" in url else f"kafka://{url}")


def password_of(url: str) -> str:
    found = split(url).password
    assert found
    assert len(found) >= 24
    return found


def without_password(url: str) -> str:
    return url.replace(f"{split(url).username or ''}:{password_of(url)}@", "")


async def test_without_the_password_every_server_refuses(own_stack: EmbeddedStack) -> None:
    with pytest.raises(nats.errors.Error, match="Authorization"):
        await probe_nats(without_password(own_stack.urls["nats"]))
    with (
        pytest.raises(redis.AuthenticationError),
        redis.Redis.from_url(without_password(own_stack.urls["redis"])) as client,
    ):
        client.set("key", "value")
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(without_password(own_stack.urls["postgres"]).replace("//", "//screener@"))
    for url in (
        without_password(own_stack.urls["kafka"]),
        own_stack.urls["kafka"].replace(password_of(own_stack.urls["kafka"]), "guessed"),
    ):
        with pytest.raises(KafkaError):
            await probe_kafka(url)
    await probe_kafka(own_stack.urls["kafka"])


def test_passwords_are_in_no_command_line_and_no_log(own_stack: EmbeddedStack) -> None:
    secrets = [password_of(url) for url in own_stack.urls.values()]
    lines = [" ".join(psutil.Process(process.pid).cmdline()) for process in own_stack.processes.values()]
    logs = [path.read_text(errors="replace") for path in own_stack.directory.rglob("*.log")]
    assert lines
    assert logs
    assert not [secret for secret in secrets for text in (*lines, *logs) if secret in text]


def test_what_the_servers_keep_is_open_to_nobody_else(own_stack: EmbeddedStack) -> None:
    found = [own_stack.directory, *own_stack.directory.rglob("*")]
    open_to_others = [path for path in found if stat.S_IMODE(path.lstat().st_mode) & 0o077]
    # PostgreSQL may share a directory of its own with its group, and links have no mode
    assert [path for path in open_to_others if not path.is_symlink()] == []


def test_a_directory_of_before_is_taken_over_with_its_data(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with EmbeddedStack.start(data, ["redis"]) as stack, redis.Redis.from_url(stack.urls["redis"]) as client:
        client.set("kept", "value")
    (data / "redis" / "password").unlink()
    for path in (data, *data.rglob("*")):
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
    with EmbeddedStack.start(data, ["redis"]) as stack:
        password_of(stack.urls["redis"])
        assert urls_of_running(data) == stack.urls
        with redis.Redis.from_url(stack.urls["redis"]) as client:
            assert client.get("kept") == b"value"
        assert [path for path in (data, *data.rglob("*")) if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


async def test_a_broker_of_before_has_a_password_from_its_next_start(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir(mode=0o755)
    with EmbeddedStack.start(tmp_path, ["kafka"]) as stack:
        first = password_of(stack.urls["kafka"])
        file = tmp_path / "kafka" / "password"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text() == first
        with pytest.raises(KafkaError):
            await probe_kafka(without_password(stack.urls["kafka"]))
    with EmbeddedStack.start(tmp_path, ["kafka"]) as stack:
        assert password_of(stack.urls["kafka"]) == first


async def test_commands_here_and_roles_are_given_the_broker_with_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCREENER_DATA_DIR", str(tmp_path))
    with EmbeddedStack.start(tmp_path, ["kafka"]) as stack:
        for server in ("NATS", "REDIS", "POSTGRES"):
            monkeypatch.setenv(f"SCREENER_{server}_URL", "-")
        here = settings_here()
        await probe_kafka("-", client_options(here.kafka()))
        monkeypatch.undo()
        role = Settings.load({k: v for k, v in role_environ(here).items() if k.startswith("SCREENER_")})
        await probe_kafka("-", client_options(role.kafka()))
        secret = password_of(stack.urls["kafka"])
        assert secret not in f"{here!r} {here} {here.model_dump_json()} {here.kafka_url}"
