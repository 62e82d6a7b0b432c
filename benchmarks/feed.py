"""The throughput of the feed: `python -m benchmarks.feed [--streams 500 --streams 2000 --streams 5000] [--seconds 10]`.

Method: a server in a separate process sends Binance's kline frames over sockets of 200 streams each, first 4 updates
a second per stream, then as many as its reader accepts. The feed runs as its role does, with default settings, against
a real NATS with JetStream on disk; the baseline (`plain_feed.py`) parses with json.loads and awaits one publication
per update. The feed batches forming candles that are ready together into one message; "1 a message" is the feed
without batching, by its setting SCREENER_FORMING_PER_MESSAGE. After a warm-up, the updates that go through and the CPU
time are measured over the same seconds. The figure to compare is updates per CPU second: on a machine with other work
the rate itself says less. `lost` are updates that the feed dropped, or by which the baseline fell behind.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import click
import nats
import psutil
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from app.database.migrate import migrate
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import free_port
from app.process.children.supervisor import role_environ
from app.settings import Settings
from app.wire.nats.stream import ensure_stream

_RATE = 4.0
_WARM_UP_S = 6.0


@dataclass(frozen=True)
class Figures:
    updates: float
    lost: float
    cpu_s: float
    seconds: float

    @property
    def per_s(self) -> float:
        return self.updates / self.seconds

    @property
    def per_cpu_s(self) -> float:
        return self.updates / self.cpu_s


@contextmanager
def child(*argv: str, env: dict[str, str] | None = None, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    with out.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *argv], env=env, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


def measure(
    process: subprocess.Popen[bytes], counts: Callable[[], tuple[float, float]], seconds: float
) -> Figures:
    """counts: returns (updates that went through, updates lost) so far."""
    deadline = time.monotonic() + 60
    while counts()[0] == 0:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("a contender does not run")
        time.sleep(0.2)
    time.sleep(_WARM_UP_S)
    watched = psutil.Process(process.pid)
    before, cpu, began_s = counts(), watched.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, cpu_after, ended_s = counts(), watched.cpu_times(), time.monotonic()
    cpu_s = cpu_after.user + cpu_after.system - cpu.user - cpu.system
    return Figures(after[0] - before[0], after[1] - before[1], cpu_s, ended_s - began_s)


def feed_counts(port: int) -> Callable[[], tuple[float, float]]:
    def counts() -> tuple[float, float]:
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            return 0.0, 0.0
        totals: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
        # a counter with labels has no sample before its first count
        return totals.get("screener_feed_updates_total", 0.0), totals.get(
            "screener_feed_dropped_updates_total", 0.0
        )

    return counts


def plain_counts(out: Path) -> Callable[[], tuple[float, float]]:
    def counts() -> tuple[float, float]:
        lines = [line for line in out.read_text().splitlines() if line.startswith("{")]
        return (float(json.loads(lines[-1])["published"]) if lines else 0.0), 0.0

    return counts


def run(name: str, streams: int, rate: float, seconds: float, base: Settings, directory: Path) -> Figures:
    port = free_port()
    settings = base.model_copy(
        update={
            "exchange_rest_url": f"http://127.0.0.1:{port}",
            "exchange_ws_url": f"ws://127.0.0.1:{port}/market/stream",
            "exchange_symbols": streams,
            "feed_port": free_port(),
            "forming_per_message": 1 if name == "feed, 1 a message" else base.forming_per_message,
        }
    )
    asyncio.run(_fresh_stream(settings))
    out = directory / f"{name}-{streams}-{rate:g}.log"
    with child("benchmarks.feed_server", str(port), str(streams), str(rate), out=directory / "server.log"):
        time.sleep(2.0)
        if name.startswith("feed"):
            argv, counts = ("app", "run", "feed"), feed_counts(settings.feed_port)
        else:
            nats_url = settings.server_urls().nats
            argv = ("benchmarks.plain_feed", str(settings.exchange_ws_url), nats_url, str(streams))
            counts = plain_counts(out)
        with child(*argv, env=role_environ(settings), out=out) as process:
            return measure(process, counts, seconds)


async def _fresh_stream(settings: Settings) -> None:
    client = await nats.connect(settings.server_urls().nats)
    for info in await client.jetstream().streams_info():
        await client.jetstream().delete_stream(str(info.config.name))
    await ensure_stream(client, settings.names())
    await client.close()


@click.command()
@click.option("--streams", multiple=True, type=int, default=(500, 2000, 5000), show_default=True)
@click.option("--seconds", default=10.0, show_default=True)
def main(streams: tuple[int, ...], seconds: float) -> None:
    directory = Path(tempfile.mkdtemp(prefix="feed-"))
    console = Console()
    table = Table(
        "streams", "offered/s", "contender", "updates/s", "CPU of a core", "updates per CPU s", "lost"
    )
    with EmbeddedStack.start(directory / "stack") as stack:
        base = Settings.load({}, **{f"{name}_url": url for name, url in stack.urls.items()})
        migrate(base.postgres())
        for count in streams:
            for rate in (_RATE, 0.0):
                offered = f"{count * rate:,.0f}" if rate else "all it takes"
                for name in ("feed", "feed, 1 a message", "plain"):
                    figures = run(name, count, rate, seconds, base, directory)
                    lost = (
                        figures.lost
                        if name == "feed"
                        else max(0.0, count * rate * figures.seconds - figures.updates)
                    )
                    table.add_row(
                        f"{count:,}", offered, name, f"{figures.per_s:,.0f}",
                        f"{figures.cpu_s / figures.seconds:.0%}", f"{figures.per_cpu_s:,.0f}", f"{lost:,.0f}",
                    )  # fmt: skip
                    console.print(f"{count} streams, {offered}, {name}: {figures}")
    console.print(table)


if __name__ == "__main__":
    main()
