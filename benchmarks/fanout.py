"""How fast an alert reaches all WebSocket clients: the sidecar against a plain `send_str` loop, in one run.

    python -m benchmarks.fanout --clients 200 --rate 20 --seconds 10

The path is hot because a market closes all its minutes in the same second: its alerts come together, and
every client wants each of them. Each server runs in its own process (uvloop for both), clients in another,
and this one produces to the embedded broker. Latency is from the broker's acknowledgement to the last byte at
a client, over all clients and alerts; the clocks are CLOCK_MONOTONIC of one machine. CPU is the server's own,
per alert delivered, and is the figure to compare: latency on few cores also holds what the clients cost.
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

from app.database.migrate import migrate
from app.kafka import ensure_topics, kafka_producer
from app.settings import Settings
from app.stack.embedded import EmbeddedStack
from app.stack.ports import free_port
from app.topics import Topics
from benchmarks.measure import Processes, processes

_PADDING = "x" * 600
"""With it an alert is about as large as a real one: 1.2 kB."""


@dataclass(frozen=True)
class Load:
    clients: int
    rate: float
    """Alerts per second."""
    burst: int
    """Alerts produced together."""
    seconds: float

    @property
    def alerts(self) -> int:
        return max(self.burst, int(self.rate * self.seconds) // self.burst * self.burst)


@dataclass(frozen=True)
class Figures:
    name: str
    delivered: int
    missing: int
    latency_ms: np.ndarray
    cpu_us_per_delivery: float

    def row(self) -> str:
        p50, p99, worst = np.percentile(self.latency_ms, [50, 99, 100])
        return (
            f"| {self.name} | {self.delivered:,} | {self.missing} | {p50:.1f} | {p99:.1f} | {worst:.1f} "
            f"| {self.cpu_us_per_delivery:.1f} |"
        )


def _alert(number: int) -> bytes:
    return orjson.dumps(
        {
            "id": str(uuid4()),
            "symbol": "BTCUSDT",
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


async def _produce(producer: AIOKafkaProducer, topic: str, load: Load) -> dict[int, int]:
    """Offset -> CLOCK_MONOTONIC ns of the acknowledgement, of every alert sent at the load's pace."""
    acknowledged: dict[int, int] = {}

    async def send(number: int) -> None:
        sent = await (await producer.send(topic, _alert(number), partition=0))
        acknowledged[sent.offset] = time.monotonic_ns()

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
    while not await asyncio.to_thread(path.exists):
        running.require_alive()
        await asyncio.sleep(0.05)


async def _measure(
    name: str, arguments: list[str], environ: Mapping[str, str], port: int, settings: Settings, load: Load
) -> Figures:
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as scratch, processes({}, Path(scratch)) as running:
        running.start(name, arguments, environ)
        await _ready(f"{url}/health/ready", running)
        counts = (str(load.clients), str(load.alerts))
        ready, result = Path(scratch, "ready"), Path(scratch, "received.npy")
        running.start(
            "clients",
            ["-m", "benchmarks.fanout_clients", f"{url}/ws/alerts", *counts, str(ready), str(result)],
            environ,
        )
        await _until(ready, running)
        async with kafka_producer(settings) as producer:
            running.start_clock()
            acknowledged = await _produce(producer, Topics.of(settings).alerts, load)
        await _until(result, running)
        cpu_s = running.cpu_s()[name]
        received = np.load(result)
    # shape (2, deliveries): seq, CLOCK_MONOTONIC ns
    acked_ns = np.array([acknowledged[seq] for seq in received[0].tolist()])
    return Figures(
        name=name,
        delivered=received.shape[1],
        missing=load.alerts * load.clients - received.shape[1],
        latency_ms=np.maximum(0, received[1] - acked_ns) / 1e6,
        cpu_us_per_delivery=1e6 * cpu_s / max(1, received.shape[1]),
    )


async def _compare(settings: Settings, load: Load) -> list[Figures]:
    await ensure_topics(settings)
    await asyncio.to_thread(migrate, settings)
    environ = {
        **os.environ,
        **settings.server_urls().as_environ(),
        "SCREENER_NAMESPACE": settings.namespace,
        "SCREENER_LOG_LEVEL": "warning",
    }
    topic = Topics.of(settings).alerts
    async with kafka_producer(settings) as producer:
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
        "PLAIN_KAFKA": settings.server_urls().kafka,
        "PLAIN_TOPIC": topic,
        "PLAIN_START": str(first.offset + load.alerts + 1),
    }
    arguments = ["-m", "benchmarks.plain_fanout"]
    figures.append(await _measure("plain send_str loop", arguments, plain_environ, plain, settings, load))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rate", type=float, default=20.0, help="alerts a second")
    parser.add_argument("--burst", type=int, default=1, help="alerts produced together")
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    load = Load(given.clients, given.rate, given.burst, given.seconds)
    with tempfile.TemporaryDirectory() as directory, EmbeddedStack.start(Path(directory)) as stack:
        urls = {f"{server}_url": url for server, url in stack.urls.items()}
        settings = Settings.load({}, **urls, namespace="fanout")
        figures = asyncio.run(_compare(settings, load))
    print(f"{load.clients} clients, {load.alerts} alerts, {load.rate:g}/s in bursts of {load.burst}\n")
    print("| server | deliveries | missing | p50 ms | p99 ms | worst ms | server CPU us/delivery |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(one.row() for one in figures))


if __name__ == "__main__":
    main()
