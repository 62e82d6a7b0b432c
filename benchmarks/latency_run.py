"""One measured run of `benchmarks.latency`: the whole screener in its processes, and rounds of simultaneous closes."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.candles.batch import MINUTE_MS, CandleBatch
from app.clock import SystemClock
from app.process.children.supervisor import RoleProcesses
from app.settings import Settings
from app.wire.barrier import Barrier
from app.wire.frames import decode_metrics
from app.wire.kafka import GATHERING, REQUEST_MAX_BYTES, client_options
from app.wire.nats.publish import CandlePublisher, candle_publisher
from app.wire.topics import Topics
from benchmarks.jumps import QUIET_MINUTES, RULE, JumpingMarket
from benchmarks.measure import REPOSITORY
from benchmarks.roles import READY_TIMEOUT_S, Settled, settling, with_roles

STAGES = ("bridge", "collector", "calculator", "evaluated", "published", "delivered", "received")
"""The moments measured: the bridge read the message; the collector sent its frame; the calculator sent its frame; the
rules were evaluated; the alert was handed to Kafka; the sidecar handed it to its clients; the client read its last
byte."""
_ROUND_TIMEOUT_S = 30.0
_CALM_S = 0.5
"""The pause between the last write of the quiet minutes and a jump."""
_CALM_TIMES: Final = 8
"""How much longer it is, in times that the closes are spread over: a market's closes are a minute apart, and the bridge
hurries only if it seldom did."""


@dataclass(frozen=True, slots=True)
class Load:
    symbols: int
    rounds: int
    warm_up_rounds: int
    """Rounds before each measured series, because code is slower when it first runs."""
    over_ms: int
    """How long the closes of a round are evenly spread over; 0: all in one write."""


@dataclass(frozen=True, slots=True)
class Series:
    """`since_ms`: ms since the candle went to NATS, shape (clients, rounds, symbols, stages)."""

    mode: str
    clients: int
    since_ms: np.ndarray


async def measure(settings: Settings, client_counts: list[int], load: Load) -> list[Series]:
    """Measure one series per number of clients, one after the other on the same processes. The servers must run."""

    async def play(_roles: RoleProcesses) -> list[Series]:
        found = []
        async with _rounds(settings, load, len(client_counts)) as rounds:
            for clients in client_counts:
                async with _listener(settings.sidecar_port, clients, load.symbols) as listener:
                    for _ in range(load.warm_up_rounds):
                        await rounds.run(listener)
                    measured = [await rounds.run(listener) for _ in range(load.rounds)]
                found.append(Series(settings.alert_mode, clients, np.stack(measured, axis=1)))
        return found

    return await with_roles(settings, play)


@asynccontextmanager
async def _listener(port: int, clients: int, alerts: int) -> AsyncIterator[asyncio.StreamReader]:
    """Run the listener; yield its standard output, which has a line per round."""
    arguments = ("-m", "benchmarks.alert_listener", str(port), str(clients), str(alerts))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE, limit=1 << 26
    )
    assert process.stdout is not None
    try:
        if not await asyncio.wait_for(process.stdout.readline(), READY_TIMEOUT_S):
            raise RuntimeError("the WebSocket clients could not connect")
        yield process.stdout
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


class _Rounds:
    def __init__(
        self,
        settings: Settings,
        load: Load,
        market: JumpingMarket,
        publisher: CandlePublisher,
        settled: Settled,
        frames: _Frames,
    ) -> None:
        self._load = load
        self._market = market
        self._publisher = publisher
        self._settled = settled
        self._frames = frames

    async def run(self, listener: asyncio.StreamReader) -> np.ndarray:
        """Play quiet minutes until all are stored, then a jump. Return ms since published, shape (clients, symbols,
        stages)."""
        await self._publisher.publish(self._market.quiet(QUIET_MINUTES))
        await self._publisher.flush()
        await self._settled.wait()
        await self._frames.skip()
        await asyncio.sleep(_CALM_S + _CALM_TIMES * self._load.over_ms / 1000)
        jump = self._market.jump()
        published_ns = await self._publish(jump)
        try:
            line = await asyncio.wait_for(listener.readline(), _ROUND_TIMEOUT_S)
        except TimeoutError:
            raise RuntimeError("not all alerts arrived: see the logs") from None
        if not line:
            raise RuntimeError("a WebSocket client was closed: see above")
        sent_ms = await self._frames.sent_ms(jump)
        return np.stack([self._since(rows, published_ns, sent_ms) for rows in orjson.loads(line)])

    async def _publish(self, jump: CandleBatch) -> dict[str, int]:
        """Publish a jump. Return symbol -> UTC ns right before its candle was encoded and handed to the socket."""
        parts = max(1, min(self._load.over_ms, len(jump)))
        pause_s = self._load.over_ms / 1000 / parts
        published_ns: dict[str, int] = {}
        began_s = time.perf_counter()
        for number, rows in enumerate(np.array_split(np.arange(len(jump)), parts)):
            await asyncio.sleep(max(0.0, began_s + number * pause_s - time.perf_counter()))
            part = jump.take(rows)
            now_ns = time.time_ns()
            await self._publisher.publish(part)
            published_ns |= {part.symbol_of(row): now_ns for row in range(len(part))}
        return published_ns

    def _since(
        self, rows: list[dict[str, Any]], published_ns: dict[str, int], sent_ms: dict[str, dict[str, int]]
    ) -> np.ndarray:
        by_symbol = {row["symbol"]: row for row in rows if row["rule_type"] == RULE}
        if by_symbol.keys() != published_ns.keys():
            raise RuntimeError(f"alerts of {len(by_symbol)} symbols, expected {len(published_ns)}")
        since = np.empty((len(published_ns), len(STAGES)))
        for place, (symbol, at_ns) in enumerate(published_ns.items()):
            row, sent = by_symbol[symbol], sent_ms[symbol]
            timings = row["timings"]
            since[place] = np.array(
                [
                    timings["ingest_ts_ms"],
                    sent["collector"],
                    sent["calculator"],
                    timings["evaluate_ts_ms"],
                    timings["publish_ts_ms"],
                    timings["deliver_ts_ms"],
                    row["received_ns"] / 1e6,
                ]
            )
            since[place] -= at_ns / 1e6
        return since


class _Frames:
    """Reads from the metric frames of a jump when the stages sent them."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        self._consumer = consumer
        self._partitions = partitions

    async def skip(self) -> None:
        """Skip all frames sent so far."""
        for partition, end in (await self._consumer.end_offsets(self._partitions)).items():
            self._consumer.seek(partition, end)

    async def sent_ms(self, jump: CandleBatch) -> dict[str, dict[str, int]]:
        """Return symbol -> stage -> UTC ms."""
        wanted, minute_ms = set(jump.symbols), int(jump.open_time_ms[0])
        found: dict[str, dict[str, int]] = {}
        async with asyncio.timeout(_ROUND_TIMEOUT_S):
            while found.keys() != wanted:
                for records in (await self._consumer.getmany(timeout_ms=200)).values():
                    for value in (record.value for record in records if Barrier.decode(record.value) is None):
                        batch, info = decode_metrics(value)
                        for row in np.flatnonzero(batch.open_time_ms == minute_ms).tolist():
                            found[batch.symbol_of(row)] = dict(info.stage_ts_ms)
        return found


@asynccontextmanager
async def _rounds(settings: Settings, load: Load, series: int) -> AsyncIterator[_Rounds]:
    async with AsyncExitStack() as exits:
        settled = await exits.enter_async_context(settling(settings))
        publisher = await exits.enter_async_context(candle_publisher(settings.nats(), "latency"))
        consumer = AIOKafkaConsumer(
            **client_options(settings.kafka()),
            enable_auto_commit=False,
            max_partition_fetch_bytes=REQUEST_MAX_BYTES,
            # the consumer must not compete for cores with the stages while they are measured
            **GATHERING,
        )
        await consumer.start()
        exits.push_async_callback(consumer.stop)
        partitions = [
            TopicPartition(Topics.of(settings.names()).metrics, number)
            for number in range(settings.partitions)
        ]
        consumer.assign(partitions)
        minutes = series * (load.warm_up_rounds + load.rounds) * (QUIET_MINUTES + 1)
        first_ms = (SystemClock().now_ms() // MINUTE_MS - minutes) * MINUTE_MS
        market = JumpingMarket(load.symbols, first_ms)
        yield _Rounds(settings, load, market, publisher, settled, _Frames(consumer, partitions))
