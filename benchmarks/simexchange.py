"""The cost of the simulated exchange: CPU per event sent, compared with a plain aiohttp server, in one run.

    python -m benchmarks.simexchange [--symbols 500 5000] [--updates-per-s 4] [--seconds 15]

Each server runs in its own process (uvloop for both); the clients, bare sockets that read and discard, run in this
one. Every connection has 200 streams. CPU is the server's own, by its process times. The events are the ones that
the server reports as sent; the bytes that the clients received are shown beside them, to expose a false report.
The last part requests the last day of minutes of 500 symbols from the simulated exchange over REST, eight requests at
a time, while the streams go on. It prints the longest silence of any connection, beside that of the same time without
requests.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
import psutil

from app.local.exchange.market.simulated import simulated_symbol
from app.local.servers.ports import free_port
from app.process.children.child import ChildProcess
from benchmarks.measure import REPOSITORY, ContenderEnded

_STREAMS = 200
_SETTLE_S = 2.0
_REQUESTS_AT_ONCE = 8
_ASKED_FOR = 500
_HANDSHAKE = (
    "GET /stream?streams={streams} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclass
class Clients:
    """Reads all connections. longest_silence_s: the longest time in which a connection received nothing."""

    received_bytes: int = 0
    longest_silence_s: float = 0.0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def connect(self, port: int, streams: list[str]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        writer.write(_HANDSHAKE.format(streams="/".join(streams)).encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
        self.tasks.append(asyncio.create_task(self._read(reader, writer)))

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard_s = time.monotonic()
        try:
            while data := await reader.read(1 << 18):
                now_s = time.monotonic()
                self.longest_silence_s = max(self.longest_silence_s, now_s - heard_s)
                heard_s = now_s
                self.received_bytes += len(data)
        finally:
            writer.close()

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass(frozen=True)
class Figures:
    name: str
    symbols: int
    events_per_s: float
    cpu_us_per_event: float
    cpu_share: float
    megabytes_per_s: float
    memory_mb: float

    def row(self) -> str:
        return (
            f"| {self.name} | {self.symbols:,} | {self.events_per_s:,.0f} | {self.cpu_us_per_event:.1f} "
            f"| {self.cpu_share:.0%} | {self.megabytes_per_s:.1f} | {self.memory_mb:,.0f} |"
        )


@contextmanager
def server(argv: list[str]) -> Iterator[psutil.Process]:
    log = REPOSITORY / ".screener" / "benchmark-simexchange.log"
    log.parent.mkdir(exist_ok=True)
    process = ChildProcess("exchange", argv, log)
    process.start()
    try:
        yield psutil.Process(process.pid)
    finally:
        process.stop(10)


async def until_open(session: aiohttp.ClientSession, url: str, process: psutil.Process) -> None:
    while True:
        if process.status() == psutil.STATUS_ZOMBIE:
            raise ContenderEnded("the server ended by itself: see .screener/benchmark-simexchange.log")
        try:
            async with session.get(url + "/sim/state"):
                return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.1)


async def events_sent(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url + "/sim/state") as answer:
        return int((await answer.json())["events_sent"])


async def measure(name: str, argv: list[str], port: int, symbols: list[str], seconds: float) -> Figures:
    url, clients = f"http://127.0.0.1:{port}", Clients()
    with server(argv) as process:
        async with aiohttp.ClientSession() as session:
            await until_open(session, url, process)
            streams = [f"{symbol.lower()}@kline_1m" for symbol in symbols]
            for start in range(0, len(streams), _STREAMS):
                await clients.connect(port, streams[start : start + _STREAMS])
            await asyncio.sleep(_SETTLE_S)
            times = process.cpu_times()
            before = (
                sum(times[:2]),
                await events_sent(session, url),
                clients.received_bytes,
                time.monotonic(),
            )
            await asyncio.sleep(seconds)
            times = process.cpu_times()
            after = (
                sum(times[:2]),
                await events_sent(session, url),
                clients.received_bytes,
                time.monotonic(),
            )
            cpu_s, events, received, wall_s = (one - other for one, other in zip(after, before, strict=True))
            figures = Figures(
                name, len(symbols), events / wall_s, 1e6 * cpu_s / events, cpu_s / wall_s,
                received / wall_s / 1e6, process.memory_info().rss / 1e6,
            )  # fmt: skip
            print(figures.row(), flush=True)
            if name == "simulated exchange":
                await history(session, url, symbols[:_ASKED_FOR], clients, seconds)
            await clients.close()
    return figures


async def history(
    session: aiohttp.ClientSession, url: str, symbols: list[str], clients: Clients, seconds: float
) -> None:
    clients.longest_silence_s = 0.0
    await asyncio.sleep(seconds)
    quiet_s, clients.longest_silence_s = clients.longest_silence_s, 0.0
    waiting, candles = list(symbols), 0
    began_s = time.monotonic()

    async def ask() -> None:
        nonlocal candles
        while waiting:
            query = {"symbol": waiting.pop(), "interval": "1m", "limit": "1440"}
            async with session.get(url + "/fapi/v1/klines", params=query) as answer:
                candles += len(await answer.json())

    await asyncio.gather(*(ask() for _ in range(_REQUESTS_AT_ONCE)))
    wall_s = time.monotonic() - began_s
    print(
        f"  a day of {len(symbols):,} symbols over REST: {candles:,} candles in {wall_s:.1f} s; longest silence of a"
        f" connection meanwhile {1000 * clients.longest_silence_s:.0f} ms, without requests {1000 * quiet_s:.0f} ms",
        flush=True,
    )


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--symbols", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--updates-per-s", type=float, default=4.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    chosen = parser.parse_args()
    print("| server | streams | events/s | CPU µs/event | of one core | MB/s | memory MB |")
    print("|---|---|---|---|---|---|---|")
    for count in chosen.symbols:
        symbols = [simulated_symbol(number) for number in range(count)]
        rate = str(chosen.updates_per_s)
        port = free_port()
        plain = [sys.executable, "-m", "benchmarks.plain_exchange", str(port), str(count), rate]
        baseline = await measure("plain aiohttp", plain, port, symbols, chosen.seconds)
        port = free_port()
        ours = [
            sys.executable, "-m", "app", "sim-exchange", "--port", str(port), "--symbols", str(count),
            "--updates-per-s", rate, "--weight-limit", "10000000",
        ]  # fmt: skip
        found = await measure("simulated exchange", ours, port, symbols, chosen.seconds)
        print(
            f"  CPU per event, plain to simulated: {baseline.cpu_us_per_event / found.cpu_us_per_event:.1f} x"
        )


if __name__ == "__main__":
    asyncio.run(main())
