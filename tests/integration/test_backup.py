"""Backup, loss and restore: what was there before is there again, to the last number and byte."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import orjson
import psycopg
import pytest
from click.testing import CliRunner
from psycopg import AsyncConnection, sql

from app.backup import database
from app.backup.manifest import NAME, read_manifest
from app.backup.run import back_up, bring_back
from app.cli.main import screener
from app.clock import ManualClock, SystemClock
from app.cooldown import Cooldowns, connect_redis
from app.database.connection import connection_url
from app.database.copy import write_alerts, write_candles, write_metric_rows
from app.database.metric_rows import metric_rows
from app.database.migrate import migrate
from app.errors import BackupUnusable, RestoreRefused
from app.ingress.publish import candle_publisher
from app.ingress.pull import CandlePull, connect, stream_name
from app.rules.shipped import shipped_rules
from app.settings import Settings
from app.stack.embedded import EmbeddedStack
from app.tickers import Ticker, TickerStore
from tests.support.database import alert, candles, metrics, migrated
from tests.support.servers import settings_for

SERVERS = ("nats", "redis", "postgres")
ACKNOWLEDGED = 7


@dataclass(frozen=True)
class Everything:
    """All that the servers keep of a namespace."""

    tables: dict[str, list[tuple[Any, ...]]]
    messages: list[tuple[int, str, bytes, dict[str, str] | None, Any]]
    """(number, subject, data, headers, time)"""
    acknowledged: int
    keys: dict[bytes, tuple[bytes, int]]
    """name -> (dump, when it expires in UTC ms)"""


async def look(settings: Settings) -> Everything:
    return Everything(await rows(settings), *await stream(settings), await keys(settings))


async def rows(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    found = {}
    with psycopg.connect(connection_url(settings)) as connection:
        for table in database.tables(connection, settings.database_schema):
            query = sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(table))
            found[table] = connection.execute(query).fetchall()
    return found


async def stream(settings: Settings) -> tuple[list[Any], int]:
    client = await nats.connect(settings.server_urls().nats)
    try:
        jetstream = client.jetstream()
        state = (await jetstream.stream_info(stream_name(settings))).state
        messages = []
        for number in range(state.first_seq, state.last_seq + 1):
            message = await jetstream.get_msg(stream_name(settings), number)
            messages.append((message.seq, message.subject, message.data, message.headers, message.time))
        consumer = await jetstream.consumer_info(stream_name(settings), "bridge")
        return messages, consumer.ack_floor.stream_seq
    finally:
        await client.close()


async def keys(settings: Settings) -> dict[bytes, tuple[bytes, int]]:
    redis = connect_redis(settings.server_urls().redis)
    try:
        names = [name async for name in redis.scan_iter(settings.name("*"))]
        return {name: (await redis.dump(name), await redis.pexpiretime(name)) for name in names}
    finally:
        await redis.aclose()


async def fill(settings: Settings) -> None:
    """Something of every kind that is kept."""
    now_ms = SystemClock().now_ms()
    async with migrated(settings) as connection:
        await write_candles(connection, candles(["AUSDT", "BUSDT"], 50))
        await write_metric_rows(connection, metric_rows(metrics(candles(["AUSDT", "BUSDT"], 50))))
        await write_alerts(connection, [alert(number) for number in range(20)])
        await user_rows(connection)
    async with candle_publisher(settings, "test") as publisher:
        await publisher.publish(candles(["AUSDT", "BUSDT"], 10, now_ms // 60_000 * 60_000 - 600_000))
        await publisher.flush()
    await acknowledge_some(settings)
    redis = connect_redis(settings.server_urls().redis)
    await Cooldowns(redis, settings).record({("rule", "AUSDT"): 1_700_000_000_000, ("rule", "ÄUSDT"): 5})
    await TickerStore(redis, settings).write([Ticker("AUSDT", 1.0, 2.0, 3.0, 0.5, 10.0, 20.0, now_ms)])
    await redis.aclose()


async def user_rows(connection: AsyncConnection) -> None:
    await connection.execute(
        "UPDATE alert_rules SET enabled = false, cooldown_s = 77 WHERE rule_type = 'flat_8h'"
    )
    await connection.execute("DELETE FROM alert_rules WHERE rule_type = 'flat_1m'")
    await connection.execute(
        "INSERT INTO user_settings (user_id, selected_alerts, webhook_url) VALUES "
        r"('a''\t\\ü', '{x,\"y z\"}', NULL), ('b', '{}', 'https://hooks.example/1')"
    )
    await connection.execute(
        "INSERT INTO user_alert_subscriptions (user_id, rule_type) SELECT user_id, 'flat_8h' FROM user_settings"
    )


async def acknowledge_some(settings: Settings) -> None:
    """As a bridge does that stopped after the first messages."""
    client = await connect(settings, "test")
    await CandlePull(client, settings, capacity=1).open()
    subscription = await client.jetstream().pull_subscribe_bind("bridge", stream_name(settings))
    for message in await subscription.fetch(ACKNOWLEDGED):
        await message.ack_sync()
    await client.close()


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[EmbeddedStack]:
    with EmbeddedStack.start(tmp_path / "first", SERVERS) as running:
        yield running


def settings_of(stack: EmbeddedStack, namespace: str) -> Settings:
    return settings_for({**stack.urls, "kafka": "127.0.0.1:1"}, namespace=namespace)


@pytest.mark.parametrize("namespace", ["", "screener_two"])
async def test_after_a_loss_of_all_servers_a_restore_misses_nothing(
    own_stack: EmbeddedStack, tmp_path: Path, namespace: str
) -> None:
    settings = settings_of(own_stack, namespace)
    await fill(settings)
    before = await look(settings)
    assert len(before.messages) == 20
    assert before.acknowledged == ACKNOWLEDGED
    assert len(before.keys) == 3
    assert {table for table, found in before.tables.items() if found} >= {
        "candles_1m", "metrics_calculated", "alert_history", "alert_rules", "user_settings", "user_alert_subscriptions",
    }  # fmt: skip
    manifest = await back_up(settings, tmp_path / "backup", SystemClock())
    assert manifest.rows == {table: len(found) for table, found in before.tables.items()}

    await asyncio.to_thread(own_stack.stop)
    shutil.rmtree(tmp_path / "first")
    with EmbeddedStack.start(tmp_path / "second", SERVERS) as fresh:
        again = settings_of(fresh, namespace)
        await bring_back(again, tmp_path / "backup")
        assert await look(again) == before
        await goes_on(again)


async def goes_on(settings: Settings) -> None:
    """The bridge gets what was not acknowledged, and new rows and messages find their place."""
    client = await connect(settings, "test")
    pull = CandlePull(client, settings, capacity=100)
    await pull.open()
    rest = await pull.batch(100, 1_000_000, 0.2)
    assert {message.metadata.sequence.stream for message in rest} == set(range(ACKNOWLEDGED + 1, 21))
    await pull.release()
    await client.close()
    async with candle_publisher(settings, "test") as publisher:
        await publisher.publish(candles(["AUSDT"], 1, SystemClock().now_ms() // 60_000 * 60_000))
        await publisher.flush()
    async with migrated(settings) as connection:
        await write_alerts(connection, [alert(number) for number in range(25)])
        assert (await (await connection.execute("SELECT count(*) FROM alert_history")).fetchone()) == (25,)


async def test_a_restore_does_not_touch_what_is_there_unless_told_to(
    settings: Settings, tmp_path: Path
) -> None:
    await fill(settings)
    before = await look(settings)
    await back_up(settings, tmp_path / "backup", SystemClock())
    with pytest.raises(RestoreRefused, match=r"candles_1m .*--overwrite"):
        await bring_back(settings, tmp_path / "backup")
    async with migrated(settings) as connection:
        await connection.execute("TRUNCATE candles_1m, metrics_calculated, alert_history")
    with pytest.raises(RestoreRefused, match=r"20 messages.*--overwrite"):
        await bring_back(settings, tmp_path / "backup")
    await bring_back(settings, tmp_path / "backup", overwrite=True)
    assert await look(settings) == before


@pytest.mark.parametrize("damage", ["changed", "missing", "no manifest", "not a manifest", "newer format"])
async def test_a_damaged_backup_is_refused_before_anything_is_touched(
    settings: Settings, tmp_path: Path, damage: str
) -> None:
    async with migrated(settings):
        pass
    backup = tmp_path / "backup"
    await back_up(settings, backup, ManualClock(0))
    victim = backup / "postgres" / "alert_rules.copy.gz"
    if damage == "changed":
        victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    elif damage == "missing":
        victim.unlink()
    elif damage == "no manifest":
        (backup / NAME).unlink()
    elif damage == "not a manifest":
        (backup / NAME).write_text("{}")
    else:
        manifest = orjson.loads((backup / NAME).read_bytes())
        (backup / NAME).write_bytes(orjson.dumps(manifest | {"format": 2}))
    with pytest.raises(BackupUnusable):
        await bring_back(settings, backup, overwrite=True)


async def test_a_backup_of_another_namespace_or_of_a_newer_schema_is_refused(
    settings: Settings, tmp_path: Path
) -> None:
    async with migrated(settings):
        pass
    backup = tmp_path / "backup"
    await back_up(settings, backup, ManualClock(0))
    other = settings.model_copy(update={"namespace": f"{settings.namespace}_b"})
    with pytest.raises(RestoreRefused, match="SCREENER_NAMESPACE"):
        await bring_back(other, backup)
    manifest = read_manifest(backup)
    newer = manifest.model_copy(update={"migrations": (*manifest.migrations, "9999_later")})
    newer.write(backup)
    with pytest.raises(RestoreRefused, match="9999_later"):
        await bring_back(settings, backup)


async def test_a_backup_is_whole_or_not_there(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BackupUnusable, match="screener migrate"):
        await back_up(settings, tmp_path / "backup", ManualClock(0))
    assert os.listdir(tmp_path) == []
    async with migrated(settings):
        pass
    (tmp_path / "taken").mkdir()
    with pytest.raises(BackupUnusable, match="exists already"):
        await back_up(settings, tmp_path / "taken", ManualClock(0))
    manifest = await back_up(settings, tmp_path / "backup", ManualClock(123))
    assert (manifest.stream, manifest.keys, manifest.created_ts_ms) == (None, 0, 123)
    assert read_manifest(tmp_path / "backup") == manifest


def test_the_commands_say_what_they_did_and_why_they_refuse(settings: Settings, tmp_path: Path) -> None:
    environ = {**settings.server_urls().as_environ(), "SCREENER_NAMESPACE": settings.namespace}
    migrate(settings)
    said = CliRunner().invoke(
        screener, ["backup", str(tmp_path / "backup")], env=environ, catch_exceptions=False
    )
    assert said.exit_code == 0
    assert re.search(r"backed up to .*backup: rows: 18 alert_rules.*; 0 messages; 0 keys", said.output)
    with psycopg.connect(connection_url(settings), autocommit=True) as connection:
        connection.execute("DELETE FROM alert_rules")
    said = CliRunner().invoke(
        screener, ["restore", str(tmp_path / "backup")], env=environ, catch_exceptions=False
    )
    assert (said.exit_code, "restored from" in said.output) == (0, True)
    with psycopg.connect(connection_url(settings)) as connection:
        assert connection.execute("SELECT count(*) FROM alert_rules").fetchone() == (len(shipped_rules()),)
    with pytest.raises(BackupUnusable):
        CliRunner().invoke(
            screener, ["backup", str(tmp_path / "backup")], env=environ, catch_exceptions=False
        )
