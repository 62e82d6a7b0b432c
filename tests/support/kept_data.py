"""All data that the servers keep of a namespace: how a test fills it, reads it, and checks that work goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nats
import psycopg
from psycopg import AsyncConnection, sql

from app.alerts.cooldowns import Cooldowns
from app.backup import database
from app.clock import SystemClock
from app.database.connection import connection_url
from app.local.servers.embedded import EmbeddedStack
from app.settings import Settings
from app.sinks.copy import write_alerts, write_candles, write_metric_rows
from app.sinks.metric_rows import metric_rows
from app.telemetry import alert_metrics
from app.wire.nats.publish import candle_publisher
from app.wire.nats.pull import CandlePull
from app.wire.nats.stream import connect, stream_name
from app.wire.redis import connect_redis
from app.wire.tickers import Ticker, TickerStore
from tests.support.database import alert, candles, metrics, migrated
from tests.support.metric_values import UNREAD
from tests.support.servers import settings_for

SERVERS = ("nats", "redis", "postgres")
ACKNOWLEDGED = 7


@dataclass(frozen=True)
class Everything:
    """All data that the servers keep of a namespace."""

    tables: dict[str, list[tuple[Any, ...]]]
    messages: list[tuple[int, str, bytes, dict[str, str] | None, Any]]
    """(number, subject, data, headers, time)"""
    acknowledged: int
    keys: dict[bytes, tuple[bytes, int]]
    """name -> (dump, when it expires in UTC ms)"""


async def look(settings: Settings) -> Everything:
    return Everything(
        await stored_rows(settings), *await stored_messages(settings), await stored_keys(settings)
    )


async def stored_rows(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    found = {}
    with psycopg.connect(connection_url(settings.postgres())) as connection:
        for table in database.tables(connection, settings.database_schema):
            query = sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(table))
            found[table] = connection.execute(query).fetchall()
    return found


async def stored_messages(settings: Settings) -> tuple[list[Any], int]:
    client = await nats.connect(settings.server_urls().nats)
    try:
        jetstream = client.jetstream()
        state = (await jetstream.stream_info(stream_name(settings.names()))).state
        messages = []
        for number in range(state.first_seq, state.last_seq + 1):
            message = await jetstream.get_msg(stream_name(settings.names()), number)
            messages.append((message.seq, message.subject, message.data, message.headers, message.time))
        consumer = await jetstream.consumer_info(stream_name(settings.names()), "bridge")
        return messages, consumer.ack_floor.stream_seq
    finally:
        await client.close()


async def stored_keys(settings: Settings) -> dict[bytes, tuple[bytes, int]]:
    redis = connect_redis(settings.server_urls().redis)
    try:
        names = [name async for name in redis.scan_iter(settings.name("*"))]
        return {name: (await redis.dump(name), await redis.pexpiretime(name)) for name in names}
    finally:
        await redis.aclose()


async def fill(settings: Settings) -> None:
    """Store some data of every kind that the servers keep."""
    now_ms = SystemClock().now_ms()
    async with migrated(settings) as connection:
        await write_candles(connection, candles(["AUSDT", "BUSDT"], 50))
        await write_metric_rows(connection, metric_rows(metrics(candles(["AUSDT", "BUSDT"], 50))))
        await write_alerts(connection, [alert(number) for number in range(20)])
        await _user_rows(connection)
    async with candle_publisher(settings.nats(), "test") as publisher:
        await publisher.publish(candles(["AUSDT", "BUSDT"], 10, now_ms // 60_000 * 60_000 - 600_000))
        await publisher.flush()
    await _acknowledge_some(settings)
    redis = connect_redis(settings.server_urls().redis)
    await Cooldowns(redis, settings.names(), alert_metrics(UNREAD)).record(
        {("rule", "AUSDT"): 1_700_000_000_000, ("rule", "ÄUSDT"): 5}
    )
    await TickerStore(redis, settings.names()).write(
        [Ticker("AUSDT", 1.0, 2.0, 3.0, 0.5, 10.0, 20.0, now_ms)]
    )
    await redis.aclose()


async def _user_rows(connection: AsyncConnection) -> None:
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


async def _acknowledge_some(settings: Settings) -> None:
    """Acknowledge the first messages, as a bridge that stopped after them."""
    client = await connect(settings.nats().url, "test")
    await CandlePull(
        client, settings.names(), capacity=1, frame_max_delay_ms=settings.frame_max_delay_ms
    ).open()
    subscription = await client.jetstream().pull_subscribe_bind("bridge", stream_name(settings.names()))
    for message in await subscription.fetch(ACKNOWLEDGED):
        await message.ack_sync()
    await client.close()


def settings_of(stack: EmbeddedStack, namespace: str) -> Settings:
    """Return settings for the servers of the stack; servers that it lacks get addresses where nothing runs."""
    nowhere = {"nats": "nats://127.0.0.1:1", "redis": "redis://127.0.0.1:1", "kafka": "127.0.0.1:1"}
    nowhere["postgres"] = "postgresql://127.0.0.1:1/none"
    return settings_for(nowhere | stack.urls, namespace=namespace)


async def goes_on(settings: Settings) -> None:
    """Check that the bridge gets the unacknowledged messages, and that new rows and messages can be stored."""
    client = await connect(settings.nats().url, "test")
    pull = CandlePull(client, settings.names(), capacity=100, frame_max_delay_ms=settings.frame_max_delay_ms)
    await pull.open()
    rest = await pull.batch(100, 1_000_000, 0.2)
    assert {message.metadata.sequence.stream for message in rest} == set(range(ACKNOWLEDGED + 1, 21))
    await pull.release()
    await client.close()
    async with candle_publisher(settings.nats(), "test") as publisher:
        await publisher.publish(candles(["AUSDT"], 1, SystemClock().now_ms() // 60_000 * 60_000))
        await publisher.flush()
    async with migrated(settings) as connection:
        await write_alerts(connection, [alert(number) for number in range(25)])
        assert (await (await connection.execute("SELECT count(*) FROM alert_history")).fetchone()) == (25,)
