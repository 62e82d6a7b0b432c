"""Every role works with exactly the rights that deploy/DATABASE.md gives it, and with no superuser anywhere."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from structlog.testing import capture_logs

from app.database.candles.minutes import database_history, stored_runs
from app.database.connection import connection_url
from app.database.migrate import migrate
from app.errors import SchemaTooOld
from app.local.servers.embedded import EmbeddedStack
from app.settings import Settings
from app.sinks.copy import write_candles
from app.sinks.retention import delete_older
from app.telemetry import database_metrics
from app.webhooks.targets.store import NewTarget
from app.wire.frames import encode_candles, encode_metrics
from app.wire.topics import Topics
from tests.integration.test_database_sinks import has_rows, producing, record, running_sinks
from tests.integration.test_webhooks_service import fresh_alerts, got, running, targets
from tests.support.alerts import publish
from tests.support.database import MIDNIGHT_MS, alert, candles, metrics
from tests.support.eventually import eventually
from tests.support.metric_values import UNREAD
from tests.support.rule_watches import rule_watch
from tests.support.servers import POSTGRES_URL
from tests.support.sidecar import prepare, running_sidecar
from tests.support.tokens import SECRET, bearer
from tests.support.webhooks import LOOPBACK, ON_LOOPBACK, receiving

DOCUMENT = Path(__file__).parents[2] / "deploy" / "DATABASE.md"
ROLES = ("feed", "calculator", "alerts", "market", "sinks", "webhooks", "sidecar")


@dataclass(frozen=True)
class Rights:
    """The settings of the owner, and of each role with its own database role."""

    owner: Settings
    of: dict[str, Settings]


@pytest.fixture
def superuser(stack: EmbeddedStack) -> Iterator[psycopg.Connection]:
    """As an administrator who creates roles; the screener never connects so."""
    if POSTGRES_URL in os.environ:
        pytest.skip(
            f"only the embedded server's administrator is known, and {POSTGRES_URL} names another server"
        )
    password = (stack.directory / "postgres" / "password").read_text()
    url = make_conninfo(stack.urls["postgres"], user="screener", password=password)
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def rights(settings: Settings, superuser: psycopg.Connection, tmp_path: Path) -> Iterator[Rights]:
    settings = settings.model_copy(update={"data_dir": tmp_path})
    migrate(settings.postgres())
    assert settings.postgres_url is not None
    given = conninfo_to_dict(settings.postgres_url.get_secret_value())
    text = DOCUMENT.read_text().split("<!-- grants")[1].split("```sql\n")[1].split("```")[0]
    suffix = settings.database_schema
    statements = re.sub(r"\bscreener\.", f"{suffix}.", text).replace("SCHEMA screener ", f"SCHEMA {suffix} ")
    statements = statements.replace("DATABASE screener_db", f"DATABASE {given['dbname']}")
    for role in ROLES:
        statements = re.sub(rf"\bscreener_{role}\b", f"{suffix}_{role}", statements)
        superuser.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'one'").format(sql.Identifier(f"{suffix}_{role}"))
        )
    superuser.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(given["user"])))
    grants = [part for part in statements.split(";\n") if part.strip()]
    database = [part for part in grants if "ON DATABASE" in part]
    for statement in grants:
        if statement not in database:
            superuser.execute(statement)
    superuser.execute("RESET ROLE")
    for statement in database:
        superuser.execute(statement)
    roles = {}
    for role in ROLES:
        url = make_conninfo(settings.postgres_url.get_secret_value(), user=f"{suffix}_{role}", password="one")
        roles[role] = Settings.load({}, **settings.model_dump() | {"postgres_url": as_url(url)})
    yield Rights(settings, roles)
    for role in ROLES:
        name = sql.Identifier(f"{suffix}_{role}")
        superuser.execute(sql.SQL("DROP OWNED BY {}").format(name))
        superuser.execute(sql.SQL("DROP ROLE {}").format(name))


def as_url(conninfo: str) -> str:
    part = conninfo_to_dict(conninfo)
    return f"postgresql://{part['user']}:{part['password']}@{part['host']}:{part['port']}/{part['dbname']}"


async def test_the_sinks_store_and_delete_with_their_rights(rights: Rights):
    settings, topics = rights.of["sinks"], Topics.of(rights.owner.names())
    minutes = candles(["AUSDT"], 5)
    async with producing(settings) as producer, running_sinks(settings):
        for _ in range(2):  # the second time through the staging table
            await producer.send_and_wait(topics.candles, encode_candles(minutes), partition=1)
            await producer.send_and_wait(topics.metrics, encode_metrics(metrics(minutes)), partition=1)
            await producer.send_and_wait(topics.alerts, record(alert(0)), partition=0)
        changed = candles(["AUSDT"], 5, seed=1)
        await producer.send_and_wait(topics.candles, encode_candles(changed), partition=1)
        await eventually(lambda: has_rows(rights.owner, candles_1m=5, metrics_calculated=6, alert_history=1))
        with psycopg.connect(connection_url(rights.owner.postgres()), autocommit=True) as connection:
            await eventually(
                lambda: (
                    connection.execute("SELECT max(close) FROM candles_1m").fetchone()
                    == (changed.close.max(),)
                )
            )
    async with await psycopg.AsyncConnection.connect(
        connection_url(settings.postgres()), autocommit=True
    ) as connection:
        assert await delete_older(connection, MIDNIGHT_MS + 10 * 60_000) == 11


async def test_feed_calculator_and_alert_worker_read_the_stored_minutes(rights: Rights):
    async with producing(rights.owner) as producer, running_sinks(rights.owner):
        minutes = encode_candles(candles(["AUSDT"], 5))
        await producer.send_and_wait(Topics.of(rights.owner.names()).candles, minutes, partition=1)
        await eventually(lambda: has_rows(rights.owner, candles_1m=5))
    with capture_logs() as logs:
        found = await stored_runs(
            rights.of["feed"].postgres(), database_metrics(UNREAD), ["AUSDT"], MIDNIGHT_MS
        )
        rows = {}
        for role in ("calculator", "alerts"):
            settings = rights.of[role]
            history = database_history(settings.postgres(), settings.partitions, database_metrics(UNREAD))
            batches = [await history(shard, MIDNIGHT_MS, MIDNIGHT_MS + 3_600_000) for shard in range(2)]
            rows[role] = sum(len(batch) for batch in batches if batch is not None)
    assert [gap.symbol for gap in found] == ["AUSDT"]
    assert rows == {"calculator": 5, "alerts": 5}
    assert logs == []


@pytest.mark.parametrize("role", ["alerts", "market"])
async def test_alert_worker_and_market_follow_the_rules(rights: Rights, role: str):
    watch = rule_watch(rights.of[role])
    await watch.begin()
    following = asyncio.create_task(watch.run())
    assert len(watch.book.rules) == 12
    with psycopg.connect(connection_url(rights.owner.postgres()), autocommit=True) as connection:
        connection.execute("DELETE FROM alert_rules WHERE rule_type = 'futures_pioneer_bull'")
    await eventually(lambda: len(watch.book.rules) == 11)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_webhooks_deliver_with_their_rights(rights: Rights):
    owner = rights.owner.model_copy(update=LOOPBACK)
    settings = rights.of["webhooks"].model_copy(update=LOOPBACK)
    async with targets(owner) as store, receiving() as receiver, running(settings):
        await store.add(NewTarget(receiver.url), ON_LOOPBACK)
        await publish(settings, fresh_alerts(range(5)))
        await eventually(lambda: len(got(receiver)) == 5)


async def test_the_sidecar_answers_and_changes_with_its_rights(rights: Rights):
    await prepare(rights.owner)
    settings = Settings.model_validate({**rights.of["sidecar"].model_dump(), "jwt_secret": SECRET})
    admin = bearer(admin=True)
    async with running_sidecar(settings) as client:
        for path in ("/api/alerts", "/api/rules", "/api/klines?symbol=AUSDT&interval=5m", "/api/symbols"):
            status, answer = await client.send("GET", path)
            assert status in (200, 404), (path, answer)
        rule = {"rule_type": "steep", "expression": "price_change_5m > 2", "severity": "high"}
        assert (await client.send("POST", "/api/rules", rule, admin))[0] == 201
        changed = {"selected_alerts": ["steep"], "notification_enabled": True}
        assert (await client.send("POST", "/api/settings", changed, admin))[0] == 200
        for version in range(2):
            mine = {"version": version, "document": {"columns": ["close:1m"]}}
            assert (await client.send("PUT", "/api/me", mine, admin))[0] == 200
        assert (await client.send("DELETE", "/api/rules/steep", headers=admin))[0] in (200, 204)


async def test_a_role_without_rights_to_migrate_says_who_must(rights: Rights):
    with psycopg.connect(connection_url(rights.owner.postgres()), autocommit=True) as connection:
        last = connection.execute(
            "DELETE FROM schema_migrations WHERE migration_id = (SELECT max(migration_id) FROM schema_migrations) "
            "RETURNING migration_id"
        ).fetchone()
    assert last is not None
    with pytest.raises(SchemaTooOld, match="run `screener migrate` as the schema's owner"):
        migrate(rights.of["sinks"].postgres())


async def test_a_role_sees_nothing_that_is_not_listed(rights: Rights):
    with (
        psycopg.connect(connection_url(rights.of["feed"].postgres()), autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT * FROM webhook_targets")


async def test_an_upgrade_finds_the_symbols_and_keeps_the_rights(rights: Rights):
    async with await psycopg.AsyncConnection.connect(
        connection_url(rights.owner.postgres()), autocommit=True
    ) as connection:
        await write_candles(connection, candles(["AUSDT", "BUSDT"], 5))
        await connection.execute("DROP TABLE candle_symbols")
        await connection.execute("DELETE FROM schema_migrations WHERE migration_id = '0009_candle_symbols'")
    assert migrate(rights.owner.postgres()) == ["0009_candle_symbols"]
    for role, may in {"sinks": True, "sidecar": False, "feed": False}.items():
        async with await psycopg.AsyncConnection.connect(
            connection_url(rights.of[role].postgres()), autocommit=True
        ) as connection:
            found = await connection.execute("SELECT symbol, newest_day::text FROM candle_symbols ORDER BY 1")
            assert await found.fetchall() == [("AUSDT", "2023-11-15"), ("BUSDT", "2023-11-15")]
            writes = await connection.execute(
                "SELECT has_table_privilege('candle_symbols', 'UPDATE, INSERT')"
            )
            assert await writes.fetchone() == (may,)
