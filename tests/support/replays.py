"""Replays for tests: slices of the real market, the alerts that they must give, and the results of a replay."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from nats.js.api import ConsumerConfig

from app.candle_files.reader import by_minutes, read_candles
from app.candles.batch import MINUTE_MS, CandleBatch
from app.cli.candles.replay import ANY_PORT
from app.clock import SystemClock
from app.database.connection import connection_url
from app.replay.replay import Progress, Replay, ReplayResult
from app.rules.alert import Alert as FiredAlert
from app.settings import Settings
from app.wire.kafka import client_options
from app.wire.nats.stream import connect, consumer_options, ensure_stream, stream_name
from app.wire.topics import Topics
from tests.oracle.alerts import Alert, close_mode_alerts_of, close_mode_ichimoku_alerts_of
from tests.support.eventually import eventually
from tests.support.market_data import ALTCOINS_2021, market_data_dir

REPOSITORY = Path(__file__).resolve().parent.parent.parent
# The rules that the oracle computes.
ORACLE_RULES = ("futures_", "ichimoku_")
# Together they give alerts in every hour, and hundreds in the crash at 03:00 of the second day.
CRASH_SYMBOLS = (
    "SUSHIUSDT", "CRVUSDT", "ATOMUSDT", "FTMUSDT", "NANOUSDT", "RUNEUSDT",
    "LINKUSDT", "COMPUSDT", "HBARUSDT", "ETHUSDT", "MANAUSDT", "COTIUSDT",
)  # fmt: skip
CRASH_HOURS = 28


def market_slice(symbols: Sequence[str] = CRASH_SYMBOLS, hours: int = CRASH_HOURS) -> CandleBatch:
    """Return the first hours of some symbols of the real market, in order of time."""
    candles = read_candles(market_data_dir() / ALTCOINS_2021)
    wanted = np.isin(np.array(candles.symbols), symbols)[candles.symbol_index]
    end_ms = int(candles.open_time_ms[0]) + hours * 60 * MINUTE_MS
    return candles.take(wanted & (candles.open_time_ms < end_ms)).compact()


def expected_alerts(candles: CandleBatch) -> set[Alert]:
    """Return the alerts that the oracle finds in the candles, by the twelve enabled rules."""
    columns = {
        "symbol": np.array(candles.symbols)[candles.symbol_index],
        "open_time_ms": candles.open_time_ms,
        "high": candles.high,
        "low": candles.low,
        "close": candles.close,
        "quote_volume": candles.quote_volume,
    }
    return close_mode_alerts_of(columns) | close_mode_ichimoku_alerts_of(columns)


def alert_keys(alerts: Iterable[FiredAlert]) -> list[Alert]:
    """Return (rule_type, symbol, open time in UTC ms) of the alerts by the oracle's rules, in close mode: there an
    alert's timestamp is the end of its minute."""
    return [
        (alert.rule_type, alert.symbol, _ms(alert.timestamp) - MINUTE_MS)
        for alert in alerts
        if alert.rule_type.startswith(ORACLE_RULES)
    ]


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@dataclass(frozen=True)
class Stored:
    """The contents of the database. alerts: (id, key) of the alerts by the oracle's rules."""

    candles: int
    alerts: list[tuple[str, Alert]]
    metrics_by_timeframe: dict[str, int]

    @property
    def alert_keys(self) -> list[Alert]:
        return [key for _, key in self.alerts]

    @property
    def ids(self) -> set[str]:
        return {identifier for identifier, _ in self.alerts}


async def stored(settings: Settings) -> Stored:
    url = connection_url(settings.postgres())
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        candles = await _one(connection, "SELECT count(*) FROM candles_1m")
        metrics = await connection.execute(
            "SELECT timeframe, count(*) FROM metrics_calculated GROUP BY timeframe"
        )
        by_timeframe = dict(await metrics.fetchall())
        alerts = await connection.execute(
            "SELECT id::text, rule_type, symbol, round(extract(epoch FROM time) * 1000)::bigint"
            " FROM alert_history WHERE rule_type ~ %s",
            (f"^({'|'.join(ORACLE_RULES)})",),
        )
        found = [
            (identifier, (rule_type, symbol, time_ms - MINUTE_MS))
            for identifier, rule_type, symbol, time_ms in await alerts.fetchall()
        ]
    return Stored(candles, found, by_timeframe)


async def stored_candles(settings: Settings) -> int:
    """Return how many candles the database holds; -1 while it does not answer."""
    try:
        async with await psycopg.AsyncConnection.connect(connection_url(settings.postgres())) as connection:
            return await _one(connection, "SELECT count(*) FROM candles_1m")
    except psycopg.Error:
        return -1


async def _one(connection: psycopg.AsyncConnection, query: str) -> int:
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return int(row[0])


@dataclass(frozen=True)
class Commanded:
    """The output of `screener replay`: its printed report, and the alerts that it wrote."""

    report: str
    alerts: list[FiredAlert]

    @property
    def ids(self) -> dict[Alert, str]:
        """The ids of the alerts by the oracle's rules."""
        mine = [alert for alert in self.alerts if alert.rule_type.startswith(ORACLE_RULES)]
        return dict(zip(alert_keys(mine), (alert.id for alert in mine), strict=True))


def replay_command(
    settings: Settings, file: Path, directory: Path, *options: str, within_s: float = 240.0
) -> Commanded:
    """Run `screener replay FILE` on the servers and in the namespace of `settings`; fail with its output."""
    out = directory / "alerts.jsonl"
    arguments = (
        "--namespace",
        settings.namespace,
        "--alerts-out",
        out,
        "--keep",
        directory / "kept",
        *options,
    )
    environ = os.environ | settings.servers_environ() | {"COLUMNS": "120"}
    ended = subprocess.run(
        [sys.executable, "-m", "app", "replay", file, *arguments],
        cwd=REPOSITORY, env=environ, timeout=within_s, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-4000:] + ended.stdout
    return Commanded(
        ended.stdout, [FiredAlert.from_dict(orjson.loads(line)) for line in out.read_bytes().splitlines()]
    )


def replay_settings(settings: Settings, **overrides: Any) -> Settings:
    """Return settings like the command's: close mode, any ports, nothing expires. Frames may fill a little longer, so
    that a slowed-down replay of few symbols does not consist of tiny frames."""
    values = {"alert_mode": "close", "retention_hours": 0, "frame_max_delay_ms": 50, **ANY_PORT}
    return settings.model_copy(update=values | overrides)


class Disturbed:
    """A replay in this process, for tests that disturb it while it runs.

    The candles are published slowly enough for the stages to keep up: so every stage is busy when a fault comes after
    some candles were stored.
    """

    def __init__(
        self, settings: Settings, candles: CandleBatch, log_dir: Path, *, seconds: float = 8.0, **options: Any
    ) -> None:
        """settings: those of `replay_settings`. seconds: how long publishing takes."""
        self.settings = settings
        self._candles = candles
        self._log_dir = log_dir
        span_s = (int(candles.open_time_ms[-1]) - int(candles.open_time_ms[0])) / 1000
        speed = span_s / seconds
        self.replay = Replay(
            settings, partial(by_minutes, candles), SystemClock(), log_dir=log_dir, speed=speed, **options
        )
        self.published = 0
        self.phase = ""

    async def run(self, fault: Callable[[], Awaitable[None]], within_s: float = 120.0) -> ReplayResult:
        """Run the replay with `fault` beside it; return its result. Fail with the end of every role's log if the replay
        does not end."""
        try:
            async with asyncio.timeout(within_s), asyncio.TaskGroup() as tasks:
                playing = tasks.create_task(self.replay.run(Progress(self._set_phase, self._set_published)))
                tasks.create_task(_awaited(fault))
        except TimeoutError:
            raise AssertionError(f"the replay hangs in phase {self.phase!r}\n{self.logs()}") from None
        return playing.result()

    def _set_phase(self, phase: str) -> None:
        self.phase = phase

    def _set_published(self, published: int) -> None:
        self.published = published

    async def until_stored(self, share: float) -> None:
        """Wait until the database holds this share of the candles."""
        wanted = share * len(self._candles)

        async def enough() -> bool:
            return await stored_candles(self.settings) >= wanted

        # the fault must come before the rest is stored too
        await eventually(enough, within_s=60, pause_max_s=0.02)

    def pid(self, role: str) -> int:
        """Return the process id of a role."""
        pid = self.replay.roles.processes[role].pid
        assert pid is not None
        return pid

    def kill(self, role: str) -> int:
        """Send SIGKILL to the process of a role; return its process id."""
        pid = self.pid(role)
        os.kill(pid, signal.SIGKILL)
        return pid

    async def until_replaced(self, role: str, pid: int) -> None:
        await eventually(lambda: self.replay.roles.processes[role].pid != pid, within_s=60)

    def log(self, role: str) -> str:
        path = self._log_dir / f"{role}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def logs(self, lines: int = 25) -> str:
        """Return the end of every role's log."""
        parts = []
        for role in self.replay.roles.roles:
            parts.append(f"--- {role}\n" + "\n".join(self.log(role).splitlines()[-lines:]))
        return "\n".join(parts)


async def _awaited(fault: Callable[[], Awaitable[None]]) -> None:
    await fault()


async def redeliver_after(settings: Settings, seconds: float) -> None:
    """Create the bridges' consumer before they do, with a shorter acknowledgement timeout."""
    client = await connect(settings.nats().url, "test")
    try:
        await ensure_stream(client, settings.names())
        config = ConsumerConfig(**consumer_options() | {"ack_wait": seconds})
        await client.jetstream().add_consumer(stream_name(settings.names()), config)
    finally:
        await client.close()


async def published_alerts(settings: Settings) -> list[dict[str, Any]]:
    """Return every record of [alerts] that is no barrier, duplicates included."""
    topic = TopicPartition(Topics.of(settings.names()).alerts, 0)
    return [orjson.loads(value) for value in await records(settings, topic) if value.startswith(b"{")]


async def dead_letters(settings: Settings) -> list[dict[str, Any]]:
    topic = TopicPartition(Topics.of(settings.names()).dead_letters, 0)
    return [orjson.loads(value) for value in await records(settings, topic)]


async def records(settings: Settings, topic: TopicPartition) -> list[bytes]:
    """Return all values of a partition up to its present end."""
    consumer = AIOKafkaConsumer(
        **client_options(settings.kafka()), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        consumer.assign([topic])
        end = (await consumer.end_offsets([topic]))[topic]
        await consumer.seek_to_beginning(topic)
        values: list[bytes] = []
        while await consumer.position(topic) < end:
            for found in (await consumer.getmany(timeout_ms=200)).values():
                values += [record.value for record in found]
        return values
    finally:
        await consumer.stop()
