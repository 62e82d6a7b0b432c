"""Whatever stands in a table costs that row: what people and roles are given beside it is whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection
from structlog.testing import capture_logs

from app.backup.database import dump, restore
from app.candles.batch import MINUTE_MS
from app.database.candles.minutes import (
    database_history,
    load_minutes,
    newest_minute,
    stored_runs,
    stored_symbols,
)
from app.database.connection import connection_url
from app.database.migrate import migrate
from app.settings import Settings
from app.sinks.copy import write_alerts, write_candles
from app.telemetry import database_metrics
from app.times import rfc3339
from tests.support.database import MIDNIGHT_MS, alert, candles
from tests.support.metric_values import UNREAD, value_of
from tests.support.sidecar import Client, prepare, running_sidecar
from tests.support.tokens import SECRET, bearer
from tests.support.webhooks import alert as outbox_alert
from tests.support.webhooks import outbox, receiving

NESTED = "[" * 600 + "]" * 600
BAD_ALERTS = {
    "time": [
        "'infinity'",
        "'-infinity'",
        "'4714-12-01 BC'",
        "'4713-01-01 BC'",
        "'294000-01-01'",
        "'0001-01-01'",
    ],
    "metadata": ["'[1]'", "'null'", "'\"text\"'", "'7'", f"'{{\"a\": {NESTED}}}'", "'{\"a\": 1e400}'"],
    "timings": ["'[]'", "'null'"],
    "price": ["'NaN'", "'infinity'", "'-infinity'"],
    "symbol": ["''", "'no such thing at all'", f"'{'A' * 1000}'"],
    "rule_version": ["-1"],
}
SHOWN = {
    "metadata": '\'{"a": 36893488147419103232, "b": [-36893488147419103232, 1e300]}\'',
    "seq": "9223372036854775807",
}
"""Odd, and nothing that could not be shown: a number above 64 bits comes as a float."""
BAD_CANDLES = (
    "'infinity', 'AUSDT', 1, 1, 1, 1, 1, 1, 1",
    "'-infinity', 'AUSDT', 1, 1, 1, 1, 1, 1, 1",
    "'4714-12-01 BC', 'AUSDT', 1, 1, 1, 1, 1, 1, 1",
    "'290000-01-01', 'AUSDT', 1, 1, 1, 1, 1, 1, 1",
    "'{10}', 'AUSDT', 'NaN', 1, 1, 1, 1, 1, 1",
    "'{11}', 'AUSDT', 1, 'infinity', 1, 1, 1, 1, 1",
    "'{12}', 'AUSDT', 1, 1, '-infinity', 1, 1, 1, 1",
    "'{13}', 'AUSDT', 1, 1, 1, 1, 1e308, 1, 1",
    "'{14}', 'AUSDT', 1, 1, 1, 1, 1e308, 1, 9223372036854775807",
    "'{15}', 'AUSDT', 1, 1, 1, 1, 1, 1, 9223372036854775807",
    "'{16}', 'AUSDT', 0, 0, 0, 0, 1, 1, 1",
    "'{17}', 'AUSDT', 1, 1, 1, 1, 1, 1, -1",
    "'{2}', '', 1, 1, 1, 1, 1, 1, 1",
    "'{2}', 'no such thing', 1, 1, 1, 1, 1, 1, 1",
)


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[AsyncConnection]:
    migrate(settings.postgres())
    async with await AsyncConnection.connect(connection_url(settings.postgres()), autocommit=True) as made:
        yield made


async def put_bad_alerts(connection: AsyncConnection) -> int:
    """Beside the alerts 1 to 3, each with one value of its own; how many."""
    await write_alerts(connection, [alert(number) for number in range(1, 4)])
    number = 100
    for column, values in (*BAD_ALERTS.items(), *((name, [value]) for name, value in SHOWN.items())):
        for value in values:
            number += 1
            given = {
                "id": f"'{UUID(int=number)}'",
                "time": f"'{rfc3339(MIDNIGHT_MS + number * 1000)}'",
                "seq": str(number),
                "symbol": "'BTCUSDT'",
                "rule_type": "'a'",
                "rule_version": "1",
                "severity": "'info'",
                "description": "''",
                "price": "1",
                "metadata": "'{}'",
                "timings": "'{}'",
            } | {column: value}
            statement = f"INSERT INTO alert_history ({', '.join(given)}) VALUES ({', '.join(given.values())})"
            await connection.execute(statement.encode())
    return sum(map(len, BAD_ALERTS.values()))


async def put_bad_candles(connection: AsyncConnection) -> None:
    """Beside minutes 0 to 9 and 20 to 29 of AUSDT and BUSDT."""
    for start in (0, 20):
        await write_candles(connection, candles(["AUSDT", "BUSDT"], 10, MIDNIGHT_MS + start * MINUTE_MS))
    for values in BAD_CANDLES:
        for minute in (2, *range(10, 18)):
            values = values.replace(f"{{{minute}}}", rfc3339(MIDNIGHT_MS + minute * MINUTE_MS))
        await connection.execute(f"INSERT INTO candles_1m VALUES ({values})".encode())


async def all_alerts(client: Client) -> list[dict[str, Any]]:
    found, parameters = [], {"limit": "4"}
    while True:
        status, body = await client.get("/api/alerts", **parameters)
        assert status == 200, body
        found += body["alerts"]
        if body["next_cursor"] is None:
            return found
        parameters["cursor"] = body["next_cursor"]


async def test_alerts_that_cannot_be_shown_are_left_out_and_told_once(
    settings: Settings, connection: AsyncConnection
) -> None:
    await prepare(settings)
    bad = await put_bad_alerts(connection)
    async with running_sidecar(settings) as client:
        counted = database_metrics(client.sidecar.parts.registry).unreadable.labels(table="alert_history")
        with capture_logs() as logs:
            shown = await all_alerts(client)
            assert await all_alerts(client) == shown
        resumed = await client.get("/api/alerts", limit="1000")
    assert {one["seq"] for one in shown if one["seq"] < 100} == {1, 2, 3}
    assert len(shown) == 3 + len(SHOWN)
    assert resumed == (200, {"alerts": shown, "next_cursor": None})
    told = [one["row"] for one in logs if one["event"] == "row_unreadable"]
    assert len(told) == bad
    assert value_of(counted) == bad


async def test_candles_that_are_none_are_left_out(settings: Settings, connection: AsyncConnection) -> None:
    await prepare(settings)
    await put_bad_candles(connection)
    assert await stored_symbols(connection) == ["AUSDT", "BUSDT"]
    assert await newest_minute(connection, "AUSDT") == MIDNIGHT_MS + 29 * MINUTE_MS
    minutes = await load_minutes(connection, ["AUSDT"], -(10**17), 10**17)
    expected = [MIDNIGHT_MS + n * MINUTE_MS for n in (*range(10), *range(20, 30))]
    assert minutes.open_time_ms.tolist() == expected
    history = database_history(settings.postgres(), settings.partitions, database_metrics(UNREAD))
    parts = [await history(shard, 0, MIDNIGHT_MS + 10**9) for shard in range(settings.partitions)]
    assert sum(len(part) for part in parts if part is not None) == 40
    runs = await stored_runs(settings.postgres(), database_metrics(UNREAD), ["AUSDT"], MIDNIGHT_MS)
    assert [(run.symbol, (run.last_ms - MIDNIGHT_MS) // MINUTE_MS) for run in runs] == [
        ("AUSDT", 17),
        ("AUSDT", 29),
    ]
    async with running_sidecar(settings) as client:
        status, bars = await client.get("/api/klines", symbol="AUSDT", interval="1m", limit="1000")
        assert (status, [bar[0] for bar in bars]) == (200, expected)
        status, bars = await client.get("/api/klines", symbol="AUSDT", interval="5m", limit="1000")
        assert (status, [(bar[0] - MIDNIGHT_MS) // MINUTE_MS for bar in bars]) == (200, [0, 5, 20, 25])
        for path in ("/api/symbols", "/api/metrics", "/api/rules", "/api/tickers"):
            assert (await client.get(path))[0] == 200


async def test_settings_with_times_that_are_none_are_shown_to_their_user(
    settings: Settings, connection: AsyncConnection
) -> None:
    await prepare(settings)
    with_users = Settings.model_validate({**settings.model_dump(), "jwt_secret": SECRET})
    ann = bearer("ann")
    async with running_sidecar(with_users) as client:
        change = {
            "webhook_url": "https://hooks.example/a",
            "notification_enabled": True,
            "selected_alerts": ["*"],
        }
        assert (await client.send("POST", "/api/settings", change, ann))[0] == 200
        await connection.execute(
            "UPDATE user_settings SET updated_at = 'infinity', selected_alerts = '{{a,b},{c,NULL}}'"
        )
        await connection.execute(
            "UPDATE webhook_targets SET last_success_at = '-infinity', held_until = 'infinity', "
            "created_at = '4714-12-01 BC', previous_secret = 'x', previous_secret_until = '-infinity'"
        )
        await connection.execute(
            "INSERT INTO user_documents (user_id, version, document, updated_at) VALUES "
            """('ann', 7, '{"columns": 36893488147419103232}', 'infinity')"""
        )
        for path in ("/api/settings", "/api/webhook", "/api/webhook/deliveries"):
            status, body = await client.send("GET", path, headers=ann)
            assert status == 200, (path, body)
        nothing = {"user_id": "ann", "version": 7, "updated_at": None, "document": {}}
        assert await client.send("GET", "/api/me", headers=ann) == (200, nothing)


async def test_an_alert_in_the_outbox_that_is_none_is_given_up_and_the_others_are_sent(
    settings: Settings,
) -> None:
    bad = ["[1]", "null", "7", '"text"', "{}", '{"id": 1}', NESTED, '{"a": 36893488147419103232}']
    async with outbox(settings) as box, receiving() as receiver:
        single = await box.add(receiver.url)
        await box.add(receiver.url, digest_s=60)
        await box.put(*(outbox_alert(number) for number in range(len(bad) + 2)))
        for number, value in enumerate(bad):
            await box.connection.execute(
                "UPDATE webhook_alerts SET alert = %s::json WHERE seq = %s", (value, number)
            )
        odd = json.loads(outbox_alert(len(bad)).encode()) | {"metadata": {"a": 36893488147419103232}}
        await box.connection.execute(
            "UPDATE webhook_alerts SET alert = %s::json WHERE seq = %s",
            (json.dumps(odd), len(bad)),
        )
        await box.connection.execute("UPDATE webhook_deliveries SET created_at = '-infinity' WHERE seq = 9")
        await box.sender().deliver_due()
        sent = sorted(one.json["data"]["seq"] for one in receiver.received)
        assert sent == [len(bad), len(bad) + 1]
        box.clock.advance_ms(60_000)
        await box.sender().deliver_due()
        digest = receiver.received[-1].json
        assert (digest["type"], [one["seq"] for one in digest["data"]["alerts"]]) == ("alert.digest", sent)
        of_single = [one for one in await box.deliveries() if one.target_id == single.id]
    assert [(one.status, one.error) for one in of_single] == [
        *[("dead", "unreadable")] * len(bad),
        *[("delivered", None)] * 2,
    ]


async def test_a_backup_holds_every_row_and_gives_it_back(settings: Settings, tmp_path: Path) -> None:
    await asyncio.to_thread(migrate, settings.postgres())
    async with await AsyncConnection.connect(
        connection_url(settings.postgres()), autocommit=True
    ) as connection:
        await put_bad_alerts(connection)
        await put_bad_candles(connection)
    rows, applied = await dump(settings.postgres(), tmp_path)
    other = settings.model_copy(update={"namespace": f"{settings.namespace}_b"})
    await restore(other.postgres(), tmp_path, rows, applied)
    assert (await dump(other.postgres(), tmp_path))[0] == rows
