"""Backup, loss and restore: what was there before is there again, to the last number and byte."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import orjson
import psycopg
import pytest
from click.testing import CliRunner

from app.backup.backup import back_up, bring_back
from app.backup.manifest import NAME, read_manifest
from app.cli.main import screener
from app.clock import ManualClock, SystemClock
from app.database.connection import connection_url
from app.database.migrate import migrate
from app.errors import BackupUnusable, RestoreRefused
from app.local.servers.embedded import EmbeddedStack
from app.rules.files import shipped_rules
from app.settings import Settings
from tests.support.database import migrated
from tests.support.kept_data import ACKNOWLEDGED, SERVERS, fill, goes_on, look, settings_of


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[EmbeddedStack]:
    with EmbeddedStack.start(tmp_path / "first", SERVERS) as running:
        yield running


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
    manifest = await back_up(settings.servers(), tmp_path / "backup", SystemClock())
    assert manifest.rows == {table: len(found) for table, found in before.tables.items()}

    await asyncio.to_thread(own_stack.stop)
    shutil.rmtree(tmp_path / "first")
    with EmbeddedStack.start(tmp_path / "second", SERVERS) as fresh:
        again = settings_of(fresh, namespace)
        await bring_back(again.servers(), tmp_path / "backup")
        assert await look(again) == before
        await goes_on(again)


async def test_a_restore_does_not_touch_what_is_there_unless_told_to(
    settings: Settings, tmp_path: Path
) -> None:
    await fill(settings)
    before = await look(settings)
    await back_up(settings.servers(), tmp_path / "backup", SystemClock())
    with pytest.raises(RestoreRefused, match=r"candles_1m .*--overwrite"):
        await bring_back(settings.servers(), tmp_path / "backup")
    async with migrated(settings) as connection:
        await connection.execute("TRUNCATE candles_1m, metrics_calculated, alert_history")
    with pytest.raises(RestoreRefused, match=r"20 messages.*--overwrite"):
        await bring_back(settings.servers(), tmp_path / "backup")
    await bring_back(settings.servers(), tmp_path / "backup", overwrite=True)
    assert await look(settings) == before


@pytest.mark.parametrize("damage", ["changed", "missing", "no manifest", "not a manifest", "newer format"])
async def test_a_damaged_backup_is_refused_before_anything_is_touched(
    settings: Settings, tmp_path: Path, damage: str
) -> None:
    async with migrated(settings):
        pass
    backup = tmp_path / "backup"
    await back_up(settings.servers(), backup, ManualClock(0))
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
        await bring_back(settings.servers(), backup, overwrite=True)


async def test_a_backup_of_another_namespace_or_of_a_newer_schema_is_refused(
    settings: Settings, tmp_path: Path
) -> None:
    async with migrated(settings):
        pass
    backup = tmp_path / "backup"
    await back_up(settings.servers(), backup, ManualClock(0))
    other = settings.model_copy(update={"namespace": f"{settings.namespace}_b"})
    with pytest.raises(RestoreRefused, match="SCREENER_NAMESPACE"):
        await bring_back(other.servers(), backup)
    manifest = await read_manifest(backup)
    newer = manifest.model_copy(update={"migrations": (*manifest.migrations, "9999_later")})
    newer.write(backup)
    with pytest.raises(RestoreRefused, match="9999_later"):
        await bring_back(settings.servers(), backup)


async def test_a_backup_is_whole_or_not_there(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BackupUnusable, match="screener migrate"):
        await back_up(settings.servers(), tmp_path / "backup", ManualClock(0))
    assert os.listdir(tmp_path) == []
    async with migrated(settings):
        pass
    (tmp_path / "taken").mkdir()
    with pytest.raises(BackupUnusable, match="already exists"):
        await back_up(settings.servers(), tmp_path / "taken", ManualClock(0))
    manifest = await back_up(settings.servers(), tmp_path / "backup", ManualClock(123))
    assert (manifest.stream, manifest.keys, manifest.created_ts_ms) == (None, 0, 123)
    assert await read_manifest(tmp_path / "backup") == manifest


def test_the_commands_say_what_they_did_and_why_they_refuse(settings: Settings, tmp_path: Path) -> None:
    environ = {**settings.servers_environ(), "SCREENER_NAMESPACE": settings.namespace}
    migrate(settings.postgres())
    said = CliRunner().invoke(
        screener, ["backup", str(tmp_path / "backup")], env=environ, catch_exceptions=False
    )
    assert said.exit_code == 0
    assert re.search(
        r"backed up to .*backup: rows: 18 alert_rule_versions, 18 alert_rules.*; 0 messages; 0 keys",
        said.output,
    )
    with psycopg.connect(connection_url(settings.postgres()), autocommit=True) as connection:
        connection.execute("DELETE FROM alert_rules")
    said = CliRunner().invoke(
        screener, ["restore", str(tmp_path / "backup")], env=environ, catch_exceptions=False
    )
    assert (said.exit_code, "restored from" in said.output) == (0, True)
    with psycopg.connect(connection_url(settings.postgres())) as connection:
        assert connection.execute("SELECT count(*) FROM alert_rules").fetchone() == (len(shipped_rules()),)
    with pytest.raises(BackupUnusable):
        CliRunner().invoke(
            screener, ["backup", str(tmp_path / "backup")], env=environ, catch_exceptions=False
        )
