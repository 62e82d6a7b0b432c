"""A replay on servers given by URL takes its own namespace away again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from app.database.connection import connection_url
from app.settings import Settings
from app.wire.kafka import client_options
from tests.support.replays import REPOSITORY

pytestmark = pytest.mark.slow

CANDLES = """symbol,open_time_ms,open,high,low,close,volume,quote_volume,trades
AUSDT,1700000040000,1,2,1,2,10,15,3
AUSDT,1700000100000,2,2,1,1,10,15,3
"""


async def names(settings: Settings) -> set[str]:
    """Of all topics, groups and schemas on the servers."""
    admin = AIOKafkaAdminClient(**client_options(settings.kafka()))
    await admin.start()
    topics, groups = await admin.list_topics(), await admin.list_consumer_groups()
    await admin.close()
    with psycopg.connect(connection_url(settings.postgres())) as connection:
        schemas = connection.execute("SELECT nspname FROM pg_namespace").fetchall()
    return {*topics, *(group for group, _ in groups), *(schema for (schema,) in schemas)}


def replay(settings: Settings, directory: Path, *options: str) -> None:
    file = directory / "candles.csv"
    file.write_text(CANDLES)
    subprocess.run(
        [sys.executable, "-m", "app", "replay", file, *options],
        cwd=REPOSITORY, env=os.environ | settings.servers_environ(), timeout=200, check=True,
    )  # fmt: skip


async def test_its_own_namespace_is_gone_after_a_replay_and_a_given_one_stays(
    settings: Settings, tmp_path: Path
):
    before = await names(settings)
    replay(settings, tmp_path)
    assert await names(settings) == before
    replay(settings, tmp_path, "--namespace", settings.namespace)
    assert settings.namespace in await names(settings) - before
