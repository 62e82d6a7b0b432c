"""A soak test: a simulated exchange with faults, the feed and the whole pipeline, and a check of every minute.

The exchange and every role run in their own processes. At the end, every minute that the exchange has (read over its
REST, from a day before the start to the cut) must be once on NATS, in the collector's table of minutes and in the
database, with the exchange's values.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
import psutil
import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families
from psycopg import AsyncConnection
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from app.candles.batch import MINUTE_MS
from app.database.connection import connection_url
from app.database.migrate import migrate
from app.feed.history.backfill import HISTORY_MINUTES
from app.local.servers.ports import free_port
from app.process.children.child import ChildProcess
from app.process.children.supervisor import RoleProcesses, role_environ
from app.process.drain import barrier_passed, nats_drained, send_barrier
from app.settings import Settings
from app.wire.barrier import BarrierReports
from app.wire.kafka import client_options, ensure_topics, kafka_producer
from app.wire.nats.candles import parse
from app.wire.nats.stream import connect, stream_name
from app.wire.redis import connect_redis
from tables.minutes import restored

ROLES = ("bridge", "all", "sinks", "feed")
Candle = tuple[float, ...]
"""open, high, low, close, volume"""
Minutes = dict[tuple[str, int], Candle]
Fault = Mapping[str, Any]
"""An entry of the exchange's schedule of faults."""
_POLL_S = 0.5


def all_faults(share_of_day_s: float) -> list[Fault]:
    """Return a schedule with every kind of fault within `share_of_day_s` seconds, and none in the last fifth of them.

    No connection is disturbed while a wrong candle waits for its correction, because a lost correction leaves the wrong
    value for good. The delisted contracts are old ones: in a short run the new ones would be delisted before the feed
    polls the list again, and it does not request contracts that it never saw listed.
    """
    kinds: Sequence[tuple[float, Fault]] = (
        (0.04, {"kind": "drop"}),
        (0.08, {"kind": "garbage", "frames": 5}),
        (0.12, {"kind": "stall", "share": 0.5, "for_s": max(4.0, 0.02 * share_of_day_s)}),
        (0.20, {"kind": "gap", "minutes": 2, "share": 0.5}),
        (0.26, {"kind": "day_cut"}),
        (0.30, {"kind": "too_many_requests", "for_s": max(2.0, 0.02 * share_of_day_s)}),
        (0.36, {"kind": "refuse_connections", "for_s": max(2.0, 0.02 * share_of_day_s)}),
        (0.361, {"kind": "drop"}),
        (0.42, {"kind": "server_errors", "share": 0.5, "for_s": max(3.0, 0.03 * share_of_day_s)}),
        (0.43, {"kind": "gap", "minutes": 1, "share": 1.0}),
        (0.48, {"kind": "late", "share": 0.3, "delay_s": 2.0}),
        (0.52, {"kind": "duplicate", "share": 0.5}),
        (0.55, {"kind": "out_of_order", "share": 0.5}),
        (0.58, {"kind": "listing", "count": 2}),
        (0.62, {"kind": "slow_rest", "delay_s": 0.5, "for_s": max(2.0, 0.02 * share_of_day_s)}),
        (0.65, {"kind": "correction", "share": 0.3, "after_s": 0.5}),
        (0.74, {"kind": "delisting", "symbols": ["SIM0015USDT", "SIM0016USDT"]}),
        (0.77, {"kind": "too_many_requests", "status": 418, "for_s": max(2.0, 0.02 * share_of_day_s)}),
        (0.78, {"kind": "gap", "minutes": 1, "share": 0.5}),
    )
    return [{"at_s": round(at * share_of_day_s, 2), "fault": dict(fault)} for at, fault in kinds]


@dataclass(frozen=True)
class SoakPlan:
    """speed: simulated time to real time; above 1 the market begins in the past, and must not reach the present."""

    symbols: int
    updates_per_s: float
    seconds: float
    speed: float = 1.0
    faults: Sequence[Fault] = ()
    settle_s: float = 120.0


@dataclass
class Account:
    """The minutes found in each place, and the expected ones."""

    expected: Minutes
    database: Minutes
    nats: dict[tuple[str, int], list[Candle]]
    table: set[tuple[str, int]]
    faults: Mapping[str, int]
    """Kind -> how often the exchange made that fault."""
    feed: Mapping[str, float]
    """The feed's metrics without labels, by name."""
    cpu_s: Mapping[str, float] = field(default_factory=dict)

    def faults_found(self) -> list[str]:
        """Return what is wrong; empty if every minute is everywhere once, with the right values."""
        found = []
        for name, there in (
            ("NATS", self.nats.keys()),
            ("the table", self.table),
            ("the database", self.database.keys()),
        ):
            missing = sorted(self.expected.keys() - there)
            if missing:
                found.append(f"{len(missing)} minutes are not in {name}, such as {missing[:3]}")
        wrong = [key for key, values in self.expected.items() if self.database.get(key, values) != values]
        if wrong:
            found.append(f"{len(wrong)} minutes are wrong in the database, such as {wrong[:3]}")
        twice = [key for key, values in self.nats.items() if max(Counter(values).values()) > 1]
        if twice:
            found.append(f"{len(twice)} minutes are on NATS more than once with the same values: {twice[:3]}")
        return found


@asynccontextmanager
async def running_exchange(
    plan: SoakPlan, settings: Settings, directory: Path
) -> AsyncIterator[ChildProcess]:
    schedule = directory / "faults.yaml"
    schedule.write_text(yaml.safe_dump(list(plan.faults)))
    argv = [
        sys.executable, "-m", "app", "sim-exchange", "--symbols", str(plan.symbols),
        "--port", str(settings.sim_exchange_port), "--updates-per-s", str(plan.updates_per_s),
        "--faults", str(schedule),
    ]  # fmt: skip
    if plan.speed != 1.0:
        start_s = time.time() - plan.speed * (plan.seconds + plan.settle_s + 60.0)
        start = datetime.fromtimestamp(start_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        argv += ["--speed", str(plan.speed), "--start", start]
    process = ChildProcess("exchange", argv, directory / "exchange.log", env=role_environ(settings))
    process.start()
    try:
        yield process
    finally:
        await asyncio.to_thread(process.stop, 10.0)


def soak_settings(base: Settings, plan: SoakPlan) -> Settings:
    port = free_port()
    return base.model_copy(
        update={
            "sim_exchange_port": port,
            "exchange_rest_url": f"http://127.0.0.1:{port}",
            "exchange_ws_url": f"ws://127.0.0.1:{port}/market/stream",
            "exchange_symbols": plan.symbols + 50,
            "exchange_refresh_s": 5.0,
            "exchange_stale_s": 3.0,
            "sim_exchange_weight_per_minute": 100_000,
            **{
                f"{role}_port": free_port()
                for role in ("feed", "bridge", "collector", "calculator", "alerts", "sinks")
            },
        }
    )


class Soak:
    def __init__(self, settings: Settings, plan: SoakPlan, directory: Path) -> None:
        """settings: those of `soak_settings`, for running servers."""
        self._settings = settings
        self._plan = plan
        self._directory = directory

    async def run(self, tell: Callable[[str], None] = lambda _: None) -> Account:
        """Run the soak. Raises AssertionError if the minutes do not arrive in time after the faults are over."""
        settings = self._settings
        async with AsyncExitStack() as exits:
            await asyncio.to_thread(migrate, settings.postgres())
            await ensure_topics(settings.kafka())
            await exits.enter_async_context(running_exchange(self._plan, settings, self._directory))
            session = await exits.enter_async_context(aiohttp.ClientSession())
            roles = RoleProcesses(role_environ(settings), self._directory, ROLES)
            exits.push_async_callback(roles.stop)
            roles.start()
            since_ms = await self._since_ms(session)
            tell("running")
            await self._until_faults_are_over(session)
            tell("settling")
            cut_ms = (await self._exchange(session))["now_ms"] // MINUTE_MS * MINUTE_MS - 2 * MINUTE_MS
            expected = await self._expected(session, since_ms, cut_ms)
            await self._until_stored(expected)
            figures = await self._figures(session)
            state = await self._exchange(session)
            cpu_s = {name: _cpu_s(process.pid) for name, process in roles.processes.items() if process.pid}
            tell("draining")
            await roles.stop_role("feed")
            await self._drain()
            return Account(
                expected,
                await self._database(cut_ms),
                await self._nats(cut_ms),
                await self._table(),
                {kind: int(one["commanded"]) for kind, one in state["faults"].items()},
                figures,
                cpu_s,
            )

    async def _until_faults_are_over(self, session: aiohttp.ClientSession) -> None:
        """Wait for the planned time, and until every fault has come: the processes may have started late."""
        began_s = time.monotonic()
        while True:
            passed_s = time.monotonic() - began_s
            if passed_s >= self._plan.seconds:
                commanded = (await self._exchange(session))["faults"].values()
                if sum(one["commanded"] for one in commanded) >= len(self._plan.faults):
                    return
                if passed_s > self._plan.seconds + self._plan.settle_s:
                    raise AssertionError(f"not all faults have come: {commanded}")
            await asyncio.sleep(_POLL_S)

    async def _exchange(self, session: aiohttp.ClientSession) -> dict[str, Any]:
        return await self._get(session, "/sim/state")

    async def _get(self, session: aiohttp.ClientSession, path: str, **query: str | int) -> Any:
        """Request JSON from the exchange, with retries: its last faults may still be active."""
        async for attempt in AsyncRetrying(
            wait=wait_exponential_jitter(multiplier=0.2, max=2.0),
            stop=stop_after_delay(60),
            retry=retry_if_exception_type(aiohttp.ClientError),
            reraise=True,
        ):
            with attempt:
                async with session.get(f"{self._settings.exchange_rest_url}{path}", params=query) as answer:
                    answer.raise_for_status()
                    return await answer.json()
        raise AssertionError("unreachable")

    async def _since_ms(self, session: aiohttp.ClientSession) -> int:
        """Wait until the feed is ready. Return the first expected minute: a day before, by the exchange's time."""
        deadline = time.monotonic() + self._plan.settle_s
        while time.monotonic() < deadline:
            with suppress(aiohttp.ClientError):
                url = f"http://127.0.0.1:{self._settings.feed_port}/health/ready"
                async with session.get(url) as answer:
                    if answer.status == 200:
                        now_ms: int = (await self._exchange(session))["now_ms"]
                        return now_ms // MINUTE_MS * MINUTE_MS - (HISTORY_MINUTES - 1) * MINUTE_MS
            await asyncio.sleep(_POLL_S)
        raise AssertionError("the feed is not ready")

    async def _expected(self, session: aiohttp.ClientSession, since_ms: int, cut_ms: int) -> Minutes:
        """Return the exchange's minutes of every perpetual that it ever listed."""
        info = await self._get(session, "/fapi/v1/exchangeInfo")
        minutes: Minutes = {}
        for one in info["symbols"]:
            if one["quoteAsset"] != "USDT" or one["contractType"] != "PERPETUAL":
                continue
            first_ms = since_ms
            while first_ms <= cut_ms:
                rows = await self._get(
                    session, "/fapi/v1/klines", symbol=one["symbol"], interval="1m", limit=1500,
                    startTime=first_ms, endTime=cut_ms,
                )  # fmt: skip
                for row in rows:
                    minutes[one["symbol"], row[0]] = tuple(float(text) for text in row[1:6])
                if not rows:
                    break
                first_ms = rows[-1][0] + MINUTE_MS
        return minutes

    async def _until_stored(self, expected: Minutes) -> None:
        deadline = time.monotonic() + self._plan.settle_s
        while True:
            missing = expected.keys() - (await self._database(2**42)).keys()
            if not missing:
                return
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{len(missing)} minutes did not reach the database, such as {sorted(missing)[:5]}"
                )
            await asyncio.sleep(2.0)

    async def _drain(self) -> None:
        client = await connect(self._settings.nats().url, "soak")
        await nats_drained(client, self._settings.names())
        await client.close()
        redis = connect_redis(self._settings.server_urls().redis)
        identifier = uuid4().hex
        async with kafka_producer(self._settings.kafka()) as producer:
            await send_barrier(producer, self._settings.kafka(), identifier)
            await barrier_passed(
                BarrierReports(redis, self._settings.names()), self._settings.partitions, identifier
            )
        await redis.aclose()

    async def _database(self, cut_ms: int) -> Minutes:
        async with await AsyncConnection.connect(connection_url(self._settings.postgres())) as connection:
            rows = await connection.execute(
                "SELECT symbol, time, open, high, low, close, volume FROM candles_1m WHERE time <= %s",
                (datetime.fromtimestamp(cut_ms / 1000, UTC),),
            )
            return {
                (symbol, round(moment.timestamp() * 1000)): tuple(values)
                async for symbol, moment, *values in rows
            }

    async def _nats(self, cut_ms: int) -> dict[tuple[str, int], list[Candle]]:
        client = await connect(self._settings.nats().url, "soak")
        jetstream = client.jetstream()
        found: dict[tuple[str, int], list[Candle]] = {}
        left = (await jetstream.stream_info(stream_name(self._settings.names()))).state.messages
        for subjects in ("candles.1m.*", "candles.batch.1m"):
            subscription = await jetstream.subscribe(
                self._settings.name(subjects),
                stream=stream_name(self._settings.names()),
                ordered_consumer=True,
            )
            info = await subscription.consumer_info()
            left = (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)
            data = [(await subscription.next_msg(timeout=20)).data for _ in range(left)]
            await subscription.unsubscribe()
            batch = parse(data, ingest_ts_ms=2**41, max_bytes=2**21, exchange="binance").batch
            if batch is None:
                continue
            columns = (batch.open, batch.high, batch.low, batch.close, batch.volume)
            values = zip(*(column.tolist() for column in columns), strict=True)
            index, times_ms = batch.symbol_index.tolist(), batch.open_time_ms.tolist()
            for symbol, open_ms, candle in zip(index, times_ms, values, strict=True):
                if open_ms <= cut_ms:
                    found.setdefault((batch.symbols[symbol], open_ms), []).append(candle)
        await client.close()
        return found

    async def _table(self) -> set[tuple[str, int]]:
        """Return the minutes in the changelog of the collector's table, by the last value of each window."""
        topic = self._settings.name("all-minutes-changelog")
        consumer = AIOKafkaConsumer(
            **client_options(self._settings.kafka()),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        newest: dict[bytes, bytes] = {}
        try:
            parts = [TopicPartition(topic, number) for number in range(self._settings.partitions)]
            consumer.assign(parts)
            ends = await consumer.end_offsets(parts)
            await consumer.seek_to_beginning(*parts)
            while any([await consumer.position(part) < ends[part] for part in parts]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    newest.update((record.key, record.value) for record in records if record.value)
        finally:
            await consumer.stop()
        return {
            (symbol, round(orjson.loads(key)[1][0]) * 1000)
            for key, packed in newest.items()
            for symbol in _symbols_of(restored(packed))
        }

    async def _figures(self, session: aiohttp.ClientSession) -> dict[str, float]:
        url = f"http://127.0.0.1:{self._settings.feed_port}/metrics"
        async with session.get(url) as answer:
            families = text_string_to_metric_families(await answer.text())
        return {
            sample.name: sample.value
            for family in families
            for sample in family.samples
            if not sample.labels and sample.name.startswith(("screener_feed", "data_collector_websocket"))
        }


def _symbols_of(packed: bytes) -> list[str]:
    """Return the symbols of a minute that `KnownMinutes.pack_minute` wrote."""
    length = int.from_bytes(packed[:4], "little")
    return packed[4 : 4 + length].decode().split(",") if length else []


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
