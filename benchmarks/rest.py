"""How fast REST answers under a steady load: the sidecar against plain handlers, in one run.

    python -m benchmarks.rest --rate 500 --seconds 20 --symbols 500

The path is hot because dashboards and bots poll. The requests are a mix of frequent reads (`rest_mix`) on a market of
500 symbols with new metrics for all of them every second, 5 h of minutes and 20,000 alerts in the database, and tickers
in Redis. There is one sidecar process (uvloop) with rate limit, security headers and ETags as in production; the
clients are another process. Both servers get the same requests at the same times. The baseline (`plain_rest`) has all
answers as Python objects and only dumps them. CPU is the server's own, per request.
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
from redis.asyncio import Redis
from yarl import URL

from app.candles.batch import MINUTE_MS, CandleBatch
from app.database.connection import open_pool
from app.database.migrate import migrate
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import free_port
from app.market.fields import METRIC_COLUMNS
from app.market.metrics import MetricsBatch
from app.rules.alert import Alert
from app.settings import Settings
from app.sinks.copy import write_alerts, write_candles
from app.times import rfc3339
from app.wire.frames import FrameInfo, encode_metrics
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.tickers import Ticker, TickerStore
from app.wire.topics import Topics, shard_of
from benchmarks.measure import Processes, processes
from benchmarks.rest_mix import RULES, WEIGHTS, Request, mix

_MINUTES = 300
_ALERTS = 20_000
_START_MS = 1_709_164_800_000
_LIMIT = "1000000"
"""Requests per minute: the sidecar counts them, but the limit is never reached."""


@dataclass(frozen=True)
class Figures:
    """results: shape (requests, 3): latency in ms, status, bytes."""

    name: str
    results: np.ndarray
    cpu_us_per_request: float

    def row(self) -> str:
        latency_ms, status, size = self.results.T
        p50, p95, p99, worst = np.percentile(latency_ms, [50, 95, 99, 100])
        failed = int(np.sum((status != 200) & (status != 304)))
        return (
            f"| {self.name} | {len(status):,} | {failed} | {p50:.2f} | {p95:.2f} | {p99:.2f} | {worst:.1f} "
            f"| {size.mean() / 1000:.1f} | {self.cpu_us_per_request:.0f} |"
        )


def _symbols(count: int) -> list[str]:
    return [f"C{number:04d}USDT" for number in range(count)]


def _candles(symbols: list[str]) -> CandleBatch:
    draw = np.random.default_rng(1)
    rows = len(symbols) * _MINUTES
    close = 100 + draw.normal(0, 1, rows)
    open_time_ms = np.repeat(_START_MS + MINUTE_MS * np.arange(_MINUTES), len(symbols))
    return CandleBatch(
        symbols=tuple(symbols),
        symbol_index=np.tile(np.arange(len(symbols), dtype=np.int32), _MINUTES),
        open_time_ms=open_time_ms,
        open=close,
        high=close + 0.5,
        low=close - 0.5,
        close=close,
        volume=draw.random(rows) * 1000,
        quote_volume=draw.random(rows) * 100_000,
        trades=draw.integers(1, 500, rows),
        taker_buy_volume=np.full(rows, np.nan),
        taker_buy_quote_volume=np.full(rows, np.nan),
        quote_estimated=np.zeros(rows, np.bool_),
        closed=np.ones(rows, np.bool_),
        event_ts_ms=open_time_ms + MINUTE_MS,
        ingest_ts_ms=open_time_ms + MINUTE_MS,
    )


def _alert(number: int, symbols: list[str]) -> Alert:
    values = {
        "id": str(uuid4()),
        "symbol": symbols[number % len(symbols)],
        "rule_type": RULES[number % len(RULES)],
        "rule_version": 1,
        "severity": "critical",
        "description": "a rule of the benchmark",
        "timestamp": rfc3339(_START_MS + number * 500),
        "price": 100.0,
        "metadata": {
            f"{name}_{timeframe}": 1234.5
            for name in ("price_change", "volume", "volume_ratio")
            for timeframe in ("5m", "15m", "1h", "8h", "1d")
        },
        "timings": {"exchange_ts_ms": 1, "ingest_ts_ms": 2, "evaluate_ts_ms": 3, "publish_ts_ms": 4},
    }
    return Alert.from_dict(values, number)


def _metrics(symbols: list[str], minute: int) -> MetricsBatch:
    draw = np.random.default_rng(minute)
    rows = len(symbols)
    open_time_ms = np.full(rows, _START_MS + minute * MINUTE_MS)
    return MetricsBatch(
        symbols=tuple(symbols),
        symbol_index=np.arange(rows, dtype=np.int32),
        open_time_ms=open_time_ms,
        closed=np.zeros(rows, np.bool_),
        event_ts_ms=open_time_ms + 1000,
        ingest_ts_ms=open_time_ms + 1000,
        values=draw.normal(0, 50, (rows, len(METRIC_COLUMNS))),
        columns=METRIC_COLUMNS,
    )


async def _fill(settings: Settings, symbols: list[str]) -> None:
    await ensure_topics(settings.kafka())
    await asyncio.to_thread(migrate, settings.postgres())
    async with (
        await open_pool(settings.postgres(), statement_timeout_ms=0) as pool,
        pool.connection() as connection,
    ):
        await write_candles(connection, _candles(symbols))
        await write_alerts(connection, [_alert(number, symbols) for number in range(_ALERTS)])
        await connection.execute("VACUUM ANALYZE candles_1m, alert_history")
    redis = Redis.from_url(settings.server_urls().redis)
    tickers = [Ticker(symbol, 100.0, 1.5, 110.0, 90.0, 1e6, 1e8, _START_MS) for symbol in symbols]
    await TickerStore(redis, settings.names()).write(tickers)
    await redis.aclose()


async def _publish(settings: Settings, symbols: list[str], first: int, seconds: float | None) -> None:
    """Publish one frame for each shard, every second for `seconds`; once if that is None."""
    shards = [
        [symbol for symbol in symbols if shard_of(symbol, settings.partitions) == shard]
        for shard in range(settings.partitions)
    ]
    async with kafka_producer(settings.kafka()) as producer:
        until_s = time.monotonic() + (seconds or 0)
        minute = first
        while True:
            for shard, members in enumerate(shards):
                frame = encode_metrics(_metrics(members, minute), FrameInfo({}))
                await producer.send_and_wait(Topics.of(settings.names()).metrics, frame, partition=shard)
            if time.monotonic() >= until_s:
                return
            minute += 1
            await asyncio.sleep(1.0)


async def _until(path: Path, running: Processes) -> None:
    while not await asyncio.to_thread(path.exists):
        running.require_alive()
        await asyncio.sleep(0.05)


async def _answers(url: str, running: Processes, wanted: str) -> bytes:
    """Return the body at `wanted`, once the status is 200."""
    async with aiohttp.ClientSession(url) as session:
        while True:
            running.require_alive()
            try:
                async with session.get(wanted) as response:
                    if response.status == 200:
                        return await response.read()
            except (aiohttp.ClientError, ConnectionError):
                pass
            await asyncio.sleep(0.1)


async def _load(
    name: str,
    url: str,
    requests: list[Request],
    rate: float,
    running: Processes,
    environ: Mapping[str, str],
    scratch: Path,
) -> Figures:
    asked, result = scratch / f"{name}.json", scratch / f"{name}.npy"
    asked.write_bytes(orjson.dumps([request.as_dict() for request in requests]))
    running.start(
        f"clients of {name}",
        ["-m", "benchmarks.rest_clients", url, str(asked), str(rate), str(result)],
        environ,
    )
    running.start_clock()
    await _until(result, running)
    cpu_s = running.cpu_s().get(name, 0.0)
    return Figures(name, np.load(result), 1e6 * cpu_s / len(requests))


async def _sidecar(
    settings: Settings,
    symbols: list[str],
    requests: list[Request],
    given: argparse.Namespace,
    environ: Mapping[str, str],
) -> tuple[Figures, dict[str, object]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    ports = {"SCREENER_SIDECAR_PORT": str(port), "SCREENER_SIDECAR_METRICS_PORT": "0"}
    with tempfile.TemporaryDirectory() as directory, processes({}, Path(directory)) as running:
        running.start("sidecar", ["-m", "app", "run", "sidecar"], {**environ, **ports})
        await _answers(url, running, "/health/ready")
        await _publish(settings, symbols, _MINUTES, None)
        await _answers(url, running, f"/api/metrics/{symbols[-1]}")
        paths = sorted({request.path for request in requests})
        objects = {path: orjson.loads(await _answers(url, running, path)) for path in paths}
        updates = asyncio.create_task(_publish(settings, symbols, _MINUTES + 1, given.seconds + 2))
        figures = await _load("sidecar", url, requests, given.rate, running, environ, Path(directory))
        await updates
    return figures, objects


async def _plain(
    objects: dict[str, object], requests: list[Request], rate: float, environ: Mapping[str, str]
) -> Figures:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    name = "plain json.dumps"
    with tempfile.TemporaryDirectory() as directory, processes({}, Path(directory)) as running:
        known = Path(directory, "objects.json")
        # keyed by the address as the server sees it, however the client writes it
        by_address = {URL(path).raw_path_qs: found for path, found in objects.items()}
        known.write_bytes(orjson.dumps(by_address))  # noqa: ASYNC240  # nothing else happens meanwhile
        running.start(name, ["-m", "benchmarks.plain_rest", str(port), str(known)], environ)
        await _answers(url, running, "/health/ready")
        return await _load(name, url, requests, rate, running, environ, Path(directory))


async def _compare(settings: Settings, given: argparse.Namespace) -> tuple[list[Figures], list[Request]]:
    symbols = _symbols(given.symbols)
    await _fill(settings, symbols)
    requests = mix(symbols, int(given.rate * given.seconds))
    environ = {
        **os.environ,
        **settings.servers_environ(),
        "SCREENER_NAMESPACE": settings.namespace,
        "SCREENER_LOG_LEVEL": "warning",
        "SCREENER_RATE_LIMIT_PER_MINUTE": _LIMIT,
    }
    sidecar, objects = await _sidecar(settings, symbols, requests, given, environ)
    return [sidecar, await _plain(objects, requests, given.rate, environ)], requests


def _by_kind(figures: list[Figures], requests: list[Request]) -> list[str]:
    kinds = np.array([request.kind for request in requests])
    rows = [
        "| request | share | sidecar p50 ms | p95 | p99 | plain p50 | p95 | p99 |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for kind, weight in WEIGHTS.items():
        cells = [
            f"{value:.2f}"
            for one in figures
            for value in np.percentile(one.results[kinds == kind, 0], [50, 95, 99])
        ]
        rows.append(f"| {kind} | {weight} % | {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--symbols", type=int, default=500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, EmbeddedStack.start(Path(directory)) as stack:
        urls = {f"{server}_url": url for server, url in stack.urls.items()}
        settings = Settings.load({}, **urls, namespace="rest")
        figures, requests = asyncio.run(_compare(settings, given))
    print(
        f"{given.rate:g} requests/s for {given.seconds:g} s, {given.symbols} symbols; load average",
        os.getloadavg(),
    )
    print("| server | requests | failed | p50 ms | p95 | p99 | max | mean kB | CPU µs a request |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for one in figures:
        print(one.row())
    print(*_by_kind(figures, requests), sep="\n")


if __name__ == "__main__":
    main()
