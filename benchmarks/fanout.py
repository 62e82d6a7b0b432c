"""How fast an alert reaches all WebSocket clients: the sidecar against a plain `send_str` loop, in one run.

    python -m benchmarks.fanout --clients 2000 --rate 20 --seconds 20

The path is hot because a market closes all its minutes in the same second: its alerts come together, and
every client wants each of them. Each server runs in its own process (uvloop for both), on one core. The other
cores are shared by the clients (bare sockets in one process), the embedded broker, and this process, which
produces the alerts. Latency is measured from the broker's acknowledgement to the last byte at a client, over all
clients and alerts; the latency from the moment the alert was given to the producer is shown beside it, as an upper
bound. The clocks are CLOCK_MONOTONIC of one machine. CPU is the server's own, per alert delivered. Memory is the
growth of the server's memory once the clients are connected. With `--watch 10` each client subscribes on /ws to its
own ten symbols, so that an alert goes to a fiftieth of the clients; the plain server checks every client's set.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp
import numpy as np
import orjson
from aiokafka import AIOKafkaProducer

from app.cli.servers import urls_of
from app.database.migrate import migrate
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import free_port
from app.settings import Settings
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.topics import Topics
from benchmarks.fanout_shared import CORE_VARIABLE, expected_deliveries, symbol_of
from benchmarks.measure import ContenderEnded, Processes, processes

_PADDING = "x" * 600
"""It makes an alert about as large as a real one: 1.2 kB."""


@dataclass(frozen=True)
class Load:
    clients: int
    rate: float
    """Alerts per second."""
    burst: int
    """Alerts produced together."""
    seconds: float
    watched: int
    """How many of the 500 symbols each client wants, a different choice for each; 0 for all."""

    @property
    def alerts(self) -> int:
        return max(self.burst, int(self.rate * self.seconds) // self.burst * self.burst)


@dataclass(frozen=True)
class Figures:
    name: str
    delivered: int
    missing: int
    latency_ms: np.ndarray
    """Measured from the acknowledgement."""
    whole_latency_ms: np.ndarray
    """Measured from the moment the alert was given to the producer."""
    cpu_us_per_delivery: float
    cpu_share: float
    """The share of the server's core that was used while alerts were produced."""
    memory_kb_per_client: float

    def row(self) -> str:
        p50, p99, worst = np.percentile(self.latency_ms, [50, 99, 100])
        return (
            f"| {self.name} | {self.delivered:,} | {self.missing} | {p50:.1f} | {p99:.1f} | {worst:.1f} "
            f"| {np.percentile(self.whole_latency_ms, 99):.1f} | {self.cpu_us_per_delivery:.1f} "
            f"| {self.cpu_share:.0%} | {self.memory_kb_per_client:.1f} |"
        )


def _alert(number: int) -> bytes:
    return orjson.dumps(
        {
            "id": str(uuid4()),
            "symbol": symbol_of(number),
            "rule_type": "futures_pioneer_bull",
            "rule_version": 1,
            "severity": "critical",
            "description": _PADDING,
            "timestamp": "2024-02-27T02:15:00.000Z",
            "price": 100.0 + number,
            "metadata": {f"volume_{name}": 1234567.875 for name in ("5m", "15m", "1h", "8h", "1d")},
            "timings": {"exchange_ts_ms": 1, "ingest_ts_ms": 2, "evaluate_ts_ms": 3, "publish_ts_ms": 4},
        }
    )


async def _produce(producer: AIOKafkaProducer, topic: str, load: Load) -> dict[int, tuple[int, int]]:
    """Produce the alerts at the load's pace. Return for every alert: offset -> CLOCK_MONOTONIC ns of (its
    acknowledgement, its sending)."""
    acknowledged: dict[int, tuple[int, int]] = {}

    async def send(number: int) -> None:
        given_ns = time.monotonic_ns()
        sent = await (await producer.send(topic, _alert(number), partition=0))
        acknowledged[sent.offset] = time.monotonic_ns(), given_ns

    begun_s = time.monotonic()
    for number in range(0, load.alerts, load.burst):
        await asyncio.sleep(max(0.0, begun_s + number / load.rate - time.monotonic()))
        await asyncio.gather(*(send(number + i) for i in range(load.burst)))
    return acknowledged


async def _ready(url: str, running: Processes) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            running.require_alive()
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            except (aiohttp.ClientError, ConnectionError):
                pass
            await asyncio.sleep(0.1)


async def _until(path: Path, running: Processes) -> None:
    """Wait until the file exists. The process that makes it may end right after."""
    while not await asyncio.to_thread(path.exists):
        try:
            running.require_alive()
        except ContenderEnded:
            if not await asyncio.to_thread(path.exists):
                raise
        await asyncio.sleep(0.05)


async def _measure(
    name: str, arguments: list[str], environ: Mapping[str, str], port: int, settings: Settings, load: Load
) -> Figures:
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as scratch, processes({}, Path(scratch)) as running:
        running.start(name, arguments, environ)
        await _ready(f"{url}/health/ready", running)
        alone_bytes = running.memory_bytes(name)
        counts = (str(load.clients), str(load.alerts), str(load.watched))
        path = "/ws" if load.watched else "/ws/alerts"
        ready, result = Path(scratch, "ready"), Path(scratch, "received.npy")
        running.start(
            "clients",
            ["-m", "benchmarks.fanout_clients", f"{url}{path}", *counts, str(ready), str(result)],
            os.environ,
        )
        await _until(ready, running)
        grown_bytes = running.memory_bytes(name) - alone_bytes
        async with kafka_producer(settings.kafka()) as producer:
            running.start_clock()
            begun_s = time.monotonic()
            acknowledged = await _produce(producer, Topics.of(settings.names()).alerts, load)
            seconds = time.monotonic() - begun_s
            cpu_s = running.cpu_s()[name]
        await _until(result, running)
        received = np.load(result)
    # shape (2, deliveries): seq, CLOCK_MONOTONIC ns
    acked_ns, given_ns = np.array([acknowledged[seq] for seq in received[0].tolist()]).T
    return Figures(
        name=name,
        delivered=received.shape[1],
        missing=expected_deliveries(load.clients, load.alerts, load.watched) - received.shape[1],
        latency_ms=np.maximum(0, received[1] - acked_ns) / 1e6,
        whole_latency_ms=(received[1] - given_ns) / 1e6,
        cpu_us_per_delivery=1e6 * cpu_s / max(1, received.shape[1]),
        cpu_share=cpu_s / seconds,
        memory_kb_per_client=grown_bytes / 1024 / load.clients,
    )


async def _compare(settings: Settings, load: Load, core: str) -> list[Figures]:
    await ensure_topics(settings.kafka())
    await asyncio.to_thread(migrate, settings.postgres())
    environ = {
        **os.environ,
        **settings.servers_environ(),
        "SCREENER_NAMESPACE": settings.namespace,
        "SCREENER_LOG_LEVEL": "warning",
        "SCREENER_WEBSOCKET_CLIENTS": str(load.clients),
        "SCREENER_WEBSOCKET_CLIENTS_PER_ADDRESS": str(load.clients),
        CORE_VARIABLE: core,
    }
    topic = Topics.of(settings.names()).alerts
    async with kafka_producer(settings.kafka()) as producer:
        first = await producer.send_and_wait(topic, _alert(0), partition=0)
    sidecar, plain = free_port(), free_port()
    figures = [
        await _measure(
            "sidecar",
            ["-m", "benchmarks.fanout_sidecar"],
            {**environ, "SCREENER_SIDECAR_PORT": str(sidecar), "SCREENER_SIDECAR_METRICS_PORT": "0"},
            sidecar,
            settings,
            load,
        )
    ]
    plain_environ = {
        **environ,
        "PLAIN_PORT": str(plain),
        "PLAIN_KAFKA": str(urls_of(settings)["kafka"]),
        "PLAIN_TOPIC": topic,
        "PLAIN_START": str(first.offset + load.alerts + 1),
    }
    arguments = ["-m", "benchmarks.plain_fanout"]
    figures.append(await _measure("plain send_str loop", arguments, plain_environ, plain, settings, load))
    return figures


def _share_out_cores() -> str:
    """Keep this process and its other children off one core and return it, for the server; "" if there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return ""
    os.sched_setaffinity(0, cores[1:])
    return str(cores[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rate", type=float, default=20.0, help="alerts a second")
    parser.add_argument("--burst", type=int, default=1, help="alerts produced together")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument(
        "--watch", type=int, default=0, help="symbols of 500 that each client wants; 0 for all"
    )
    given = parser.parse_args()
    core = _share_out_cores()
    load = Load(given.clients, given.rate, given.burst, given.seconds, given.watch)
    with tempfile.TemporaryDirectory() as directory, EmbeddedStack.start(Path(directory)) as stack:
        urls = {f"{server}_url": url for server, url in stack.urls.items()}
        settings = Settings.load({}, **urls, namespace="fanout")
        figures = asyncio.run(_compare(settings, load, core))
    print(f"server on core {core or 'any'}; load average: {os.getloadavg()[0]:.1f}")
    print(f"{load.clients} clients, each of {load.watched or 'all'} symbols")
    print(f"{load.alerts} alerts, {load.rate:g}/s in bursts of {load.burst}\n")
    print(
        "| server | deliveries | missing | p50 ms | p99 ms | worst ms | p99 ms from sending "
        "| server CPU us/delivery | of its core | server kB/client |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    print("\n".join(one.row() for one in figures))


if __name__ == "__main__":
    main()
