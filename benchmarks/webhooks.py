"""How fast alerts reach webhook receivers: the outbox and its sender against a plain loop, in one run.

    python -m benchmarks.webhooks --targets 20 --alerts 200

The path is hot because a market closes all its minutes in the same second: its alerts come together, each for
several targets, and receivers take tens of milliseconds to answer. The plain loop is the usual first version: one
aiohttp session, one `post` after the other, no record of what it sent. Ours includes writing the deliveries to
PostgreSQL, claims, outcomes and the log of attempts, each durable, and signatures. Both run in this process on
uvloop; the receiver is a separate process; PostgreSQL is the embedded one. The clock of a case runs from the first
delivery written (first `post`) until the last receiver has answered (and its outcome is stored).

Three cases: receivers that answer at once (the cost of a delivery), receivers that take 20 ms (how far requests
overlap), and the same with one more target that never answers (whether it delays the others). In the last case the
time of ours ends when the other targets have everything; the plain loop waits for a timeout at each alert, so its time
is computed from its rate and that wait, and marked as computed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from uuid import uuid4

import aiohttp
import psutil
import uvloop
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection

from app.clock import SystemClock
from app.database.connection import connection_url, open_pool
from app.database.migrate import migrate
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import free_port
from app.process.quarantine import Attempts
from app.rules.alert import Alert, Timings, alert_id
from app.settings import Settings
from app.telemetry import pipeline_metrics
from app.telemetry.log_output import configure_logging
from app.times import rfc3339
from app.webhooks.delivery.outbox import route
from app.webhooks.delivery.post import webhook_client
from app.webhooks.delivery.sender import Sender, SenderLimits
from app.webhooks.targets.store import NewTarget, TargetStore
from app.webhooks.targets.urls import AllowedHosts
from benchmarks.measure import REPOSITORY

TIMEOUT_S = 1.0
"""The timeout of a request, for both contenders; the sender's default is 15 s."""
NEVER_MS = 3_600_000
CONCURRENCY, PER_TARGET = 128, 8


@dataclass(frozen=True)
class Figures:
    name: str
    deliveries: int
    seconds: float
    cpu_s: float
    computed: bool = False

    def row(self, case: str, plain: Figures) -> str:
        rate, plain_rate = self.deliveries / self.seconds, plain.deliveries / plain.seconds
        about = "about " if self.computed else ""
        return (
            f"| {case} | {self.name} | {self.deliveries:,} | {about}{self.seconds:.2f} | {about}{rate:,.0f} "
            f"| {rate / plain_rate:.1f} | {1e6 * self.cpu_s / self.deliveries:,.0f} |"
        )


def alerts_of(count: int) -> list[Alert]:
    """Return alerts that are about as large as real ones."""
    now_ms = SystemClock().now_ms()
    return [
        Alert.from_dict(
            {
                "id": alert_id(f"rule_{uuid4().hex}", 1, f"S{seq}USDT", now_ms),
                "symbol": f"S{seq}USDT",
                "rule_type": "futures_pioneer_bull",
                "rule_version": 1,
                "severity": "critical",
                "description": "a steep rise of the last five minutes",
                "timestamp": rfc3339(now_ms),
                "price": 100.0 + seq,
                "metadata": {f"value_{number}": seq + number / 7 for number in range(20)},
                "timings": {"publish_ts_ms": now_ms},
            },
            seq,
        )
        for seq in range(count)
    ]


@contextmanager
def receiver() -> Iterator[int]:
    port = free_port()
    argv = [sys.executable, "-m", "benchmarks.webhook_receiver", str(port)]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield port
        finally:
            process.terminate()


def urls_of(port: int, targets: int, answer_ms: int) -> list[str]:
    return [f"http://127.0.0.1:{port}/{answer_ms}/{number}" for number in range(targets)]


async def plain(urls: Sequence[str], alerts: Sequence[Alert]) -> Figures:
    cpu = psutil.Process()
    began_s, used_s = time.perf_counter(), sum(cpu.cpu_times()[:2])
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        for alert in alerts:
            body = alert.encode()
            for url in urls:
                async with session.post(url, data=body) as answer:
                    await answer.read()
    seconds = time.perf_counter() - began_s
    return Figures("plain loop", len(alerts) * len(urls), seconds, sum(cpu.cpu_times()[:2]) - used_s)


@asynccontextmanager
async def schema(base: Settings) -> AsyncIterator[Settings]:
    """Make a schema for one case, so that the size of one case does not affect the next."""
    settings = base.model_copy(update={"namespace": f"b_{uuid4().hex[:8]}"})
    await asyncio.to_thread(migrate, settings.postgres())
    yield settings


async def ours(base: Settings, urls: Sequence[str], alerts: Sequence[Alert], stalled: str | None) -> Figures:
    clock, allowed = SystemClock(), AllowedHosts(networks=(ip_network("127.0.0.0/8"),))
    cpu = psutil.Process()
    async with schema(base) as settings:
        settings = settings.model_copy(update={"webhook_allowed_hosts": ("127.0.0.0/8",)})
        async with (
            await AsyncConnection.connect(connection_url(settings.postgres()), autocommit=True) as connection,
            await open_pool(settings.postgres(), max_size=2, durable=True) as pool,
            webhook_client(allowed, TIMEOUT_S, clock, CONCURRENCY) as client,
        ):
            store = TargetStore(connection, clock)
            for url in (*urls, *filter(None, [stalled])):
                await store.add(NewTarget(url), allowed)
            fresh = [replace(a, timings=Timings(publish_ts_ms=clock.now_ms())) for a in alerts]
            stop = asyncio.Event()
            limits = SenderLimits(CONCURRENCY, PER_TARGET, TIMEOUT_S, stop_grace_s=0.0)
            registry = CollectorRegistry()
            attempts = Attempts(Path(os.devnull), "webhooks-outbox", pipeline_metrics(registry))
            sender = Sender(pool, client, limits, clock, lambda: 0.0, attempts, registry)
            running = asyncio.create_task(sender.run(stop))
            began_s, used_s = time.perf_counter(), sum(cpu.cpu_times()[:2])
            await route(connection, fresh, clock.now_ms())
            sender.wake()
            await _until_delivered(connection, len(urls) * len(alerts))
            seconds, cpu_s = time.perf_counter() - began_s, sum(cpu.cpu_times()[:2]) - used_s
            stop.set()
            await running
    return Figures("**outbox and sender**", len(urls) * len(alerts), seconds, cpu_s)


async def _until_delivered(connection: AsyncConnection, count: int) -> None:
    query = "SELECT count(*) FROM webhook_deliveries WHERE status = 'delivered'"
    while True:
        row = await (await connection.execute(query)).fetchone()
        if row == (count,):
            return
        await asyncio.sleep(0.02)


async def compare(settings: Settings, port: int, targets: int, count: int) -> None:
    alerts = alerts_of(count)
    print("| case | contender | deliveries | s | a second | ratio | CPU µs each |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for answer_ms in (0, 20):
        case = f"{targets} targets, answer {'at once' if not answer_ms else f'after {answer_ms} ms'}"
        urls = urls_of(port, targets, answer_ms)
        # with slow receivers a part of the alerts is enough
        base = await plain(urls, alerts[: max(1, count // (1 if not answer_ms else 10))])
        print(base.row(case, base), flush=True)
        print((await ours(settings, urls, alerts, None)).row(case, base), flush=True)
    case = "the same, and one that never answers"
    waits_s = base.seconds / base.deliveries * targets * count + TIMEOUT_S * count
    waiting = Figures(
        "plain loop", targets * count, waits_s, base.cpu_s / base.deliveries * targets * count, True
    )
    print(waiting.row(case, waiting), flush=True)
    stalled = urls_of(port, 1, NEVER_MS)[0]
    print((await ours(settings, urls, alerts, stalled)).row(case, waiting), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--alerts", type=int, default=200)
    given = parser.parse_args()
    configure_logging("error", "console")
    with (
        tempfile.TemporaryDirectory() as directory,
        EmbeddedStack.start(Path(directory), ["postgres"]) as stack,
        receiver() as port,
    ):
        settings = Settings.load({}, postgres_url=stack.urls["postgres"])
        uvloop.run(compare(settings, port, given.targets, given.alerts))


if __name__ == "__main__":
    main()
