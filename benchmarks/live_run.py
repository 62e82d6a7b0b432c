"""One measured run of `benchmarks.live`: it publishes the updates on time, reads the alerts, and counts CPU time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp
import numpy as np
import orjson
import psutil

from app.candles.batch import MINUTE_MS, BoolArray, concatenate
from app.database.connection import open_pool
from app.database.rule_store import RuleStore
from app.process.children.child import ChildProcess
from app.process.children.supervisor import RoleProcesses
from app.settings import Settings
from app.wire.nats.publish import CandlePublisher, candle_publisher
from benchmarks.live_market import CLOSE_RULE, LIVE_RULE, LiveMarket
from benchmarks.measure import CpuMeter
from benchmarks.roles import Settled, settling, with_roles

_MISSING_AFTER_S = 30.0
_RULES_IN_FORCE_S = 2.0
"""The wait after the commit of rules: several times as long as `app/alerts/rule_watch.py` needs."""
_SETTLE_MINUTES = 1
"""Minutes of live updates before the measured ones."""
_FORMING_PER_MESSAGE = 100

AlertKey = tuple[str, str, int]
"""rule_type, symbol, open time of the minute in UTC ms."""


@dataclass(frozen=True, slots=True)
class LiveLoad:
    """tick_ms: how many ms of updates go into one message. history_minutes: closed minutes before the live updates."""

    symbols: int
    updates_per_s: float
    minutes: int
    tick_ms: int
    history_minutes: int


@dataclass(frozen=True, slots=True)
class LiveRun:
    """published_ms, received_ms: ms since the event, shape (alerts,). at_close: which alerts are about closed candles.
    cpu_s: CPU time by process, for the `updates` of all symbols in `seconds`."""

    published_ms: np.ndarray
    received_ms: np.ndarray
    at_close: BoolArray
    updates: int
    seconds: float
    cpu_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Measured:
    """The load from the start of the first measured minute to the end of the last one."""

    first_ms: int
    updates: int
    seconds: float
    cpu_s: Mapping[str, float]


async def measure_live(settings: Settings, load: LiveLoad, servers: Mapping[str, ChildProcess]) -> LiveRun:
    """servers: the running servers of `settings`, whose CPU time counts too."""

    async def play(roles: RoleProcesses) -> LiveRun:
        processes = {name: process.pid for name, process in {**roles.processes, **servers}.items()}
        market = LiveMarket(load.symbols, load.updates_per_s)
        async with AsyncExitStack() as exits:
            publisher = await exits.enter_async_context(
                candle_publisher(settings.nats(), "live", forming_per_message=_FORMING_PER_MESSAGE)
            )
            settled = await exits.enter_async_context(settling(settings))
            await _take_in_history(market, publisher, settled, load.history_minutes)
            await _put_rules(settings)
            arrivals = await exits.enter_async_context(_alerts(settings.sidecar_port))
            measured = await _Player(market, publisher, load).play(
                {name: psutil.Process(pid) for name, pid in processes.items() if pid is not None}
            )
            found = await _all_alerts(arrivals, load, measured.first_ms)
        return _run_of(found, measured)

    return await with_roles(settings, play)


async def _take_in_history(
    market: LiveMarket, publisher: CandlePublisher, settled: Settled, minutes: int
) -> None:
    """Publish closed minutes up to the one that has begun, and wait until every stage is done with them."""
    now_ms = _now_ms() // MINUTE_MS * MINUTE_MS
    times_ms = range(now_ms - minutes * MINUTE_MS, now_ms, MINUTE_MS)
    await publisher.publish(concatenate([market.closed(at_ms) for at_ms in times_ms]), 100)
    await publisher.flush()
    await settled.wait()


async def _put_rules(settings: Settings) -> None:
    async with await open_pool(settings.postgres()) as pool:
        await RuleStore(pool).apply([LIVE_RULE, CLOSE_RULE])
    await asyncio.sleep(_RULES_IN_FORCE_S)


class _Player:
    def __init__(self, market: LiveMarket, publisher: CandlePublisher, load: LiveLoad) -> None:
        self._market = market
        self._publisher = publisher
        self._load = load

    async def play(self, processes: Mapping[str, psutil.Process]) -> _Measured:
        """Play the rest of this minute, whole minutes to settle, the measured minutes, and a second more. The alerts at
        a minute's end belong to that minute."""
        first_ms = (_now_ms() // MINUTE_MS + 1 + _SETTLE_MINUTES) * MINUTE_MS
        await self._play_until(first_ms)
        meter, began_s = CpuMeter(), time.perf_counter()
        meter.start(processes)
        updates = await self._play_until(first_ms + self._load.minutes * MINUTE_MS)
        measured = _Measured(first_ms, updates, time.perf_counter() - began_s, meter.seconds())
        await self._play_until(_now_ms() + 1_000)
        return measured

    async def _play_until(self, end_ms: int) -> int:
        """Publish the updates due up to and including `end_ms`, and the closes of minutes that end; return how many."""
        updates, since_ms = 0, _now_ms()
        while since_ms < end_ms:
            await asyncio.sleep(self._load.tick_ms / 1000 - time.time() % (self._load.tick_ms / 1000))
            until_ms = min(_now_ms(), end_ms)
            minute_ms = until_ms // MINUTE_MS * MINUTE_MS
            if since_ms < minute_ms:
                closed = self._market.closed(minute_ms - MINUTE_MS)
                await self._publisher.publish(closed)
                updates += len(closed)
                since_ms = minute_ms
            due = self._market.updates(since_ms, until_ms)
            if len(due):
                await self._publisher.publish(due)
            updates += len(due)
            since_ms = until_ms
        return updates


Arrivals = list[tuple[float, str]]
"""(UTC ms, JSON text)"""


@asynccontextmanager
async def _alerts(port: int) -> AsyncIterator[Arrivals]:
    """Yield a list that grows with everything that a client of /ws/alerts receives."""
    arrivals: Arrivals = []

    async def read(socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            arrivals.append((time.time() * 1000, message.data))

    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/ws/alerts") as socket,
    ):
        reading = asyncio.create_task(read(socket))
        try:
            yield arrivals
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _all_alerts(
    arrivals: Arrivals, load: LiveLoad, first_ms: int
) -> dict[AlertKey, tuple[float, dict[str, Any]]]:
    """Return (UTC ms of its arrival, timings) of every alert of the measured minutes. Raises RuntimeError when some
    are missing."""
    wanted = 2 * load.symbols * load.minutes
    end_ms = first_ms + load.minutes * MINUTE_MS
    give_up_s = time.monotonic() + _MISSING_AFTER_S
    while True:
        found = {key: seen for key, seen in _read(arrivals) if first_ms <= key[2] < end_ms}
        if len(found) == wanted:
            return found
        if time.monotonic() > give_up_s:
            raise RuntimeError(f"{len(found)} alerts, expected {wanted}: see the logs")
        await asyncio.sleep(1.0)


def _read(arrivals: Arrivals) -> Iterator[tuple[AlertKey, tuple[float, dict[str, Any]]]]:
    for received_ms, text in arrivals:
        alert = orjson.loads(text)
        if alert["rule_type"] not in (LIVE_RULE.rule_type, CLOSE_RULE.rule_type):
            continue
        event_ms = round(datetime.fromisoformat(alert["timestamp"]).timestamp() * 1000)
        # the event time of an update lies in (open, end] of its minute; that of a close is the end
        minute_ms = (event_ms - 1) // MINUTE_MS * MINUTE_MS
        yield (alert["rule_type"], alert["symbol"], minute_ms), (received_ms, alert["timings"])


def _run_of(found: Mapping[AlertKey, tuple[float, dict[str, Any]]], measured: _Measured) -> LiveRun:
    event_ms = np.array([timings["exchange_ts_ms"] for _, timings in found.values()])
    published_ms = np.array([timings["publish_ts_ms"] for _, timings in found.values()])
    received_ms = np.array([received for received, _ in found.values()])
    return LiveRun(
        published_ms=published_ms - event_ms,
        received_ms=received_ms - event_ms,
        at_close=np.array([key[0] == CLOSE_RULE.rule_type for key in found]),
        updates=measured.updates,
        seconds=measured.seconds,
        cpu_s=measured.cpu_s,
    )


def _now_ms() -> int:
    return int(time.time() * 1000)
