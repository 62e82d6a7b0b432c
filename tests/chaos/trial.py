"""One trial: `screener up` on a simulated exchange, faults for some minutes, and a check of the stored data.

Afterwards every minute of the exchange must be in the database with its values, and the alerts of `close` mode must be
those of one undisturbed pass over the same minutes, each once, with the same ids; `/api/health` must say ok again.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import psycopg

from app.candles.batch import MINUTE_MS
from app.database.connection import connection_url
from app.local.servers.running import urls_of_running
from app.settings import Settings
from tests.chaos.faults import kill, sever, stop_for
from tests.chaos.truth import (
    Alert,
    Candle,
    alerts_of_an_undisturbed_run,
    minutes_of_exchange,
    now_in_ms,
    rows_of,
)
from tests.support.eventually import eventually
from tests.support.running_up import Up, running

TARGETS = (
    "run exchange",
    "run feed",
    "run bridge",
    "app.main:all",
    "run market",
    "run sinks",
    "run webhooks",
    "run sidecar",
    "nats-server",
    "valkey-server",
    "postgres/data",
    "app.local.broker",
)
"""The processes that faults hit, each by a word in its command line."""
KINDS = ("kill", "stop", "sever")
RULES = """\
rules:
  - {rule_type: chaos_move, expression: 'abs(price_change_1m) > 0.05', severity: low, cooldown_s: 60, mode: close}
  - {rule_type: chaos_cross, expression: 'crosses_above(price_change_5m, 0)', severity: low, cooldown_s: 60,
     mode: close}
  - {rule_type: chaos_prev, expression: 'volume_5m > 1.2 * prev(volume_5m)', severity: low, cooldown_s: 60,
     mode: close}
  - {rule_type: chaos_rsi, expression: 'rsi_14_1m > 60', severity: low, cooldown_s: 60, mode: close}
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """seconds: how long faults happen. pauses_s: the shortest and longest pause between two. settled_s: how long it may
    take afterwards until everything is as expected."""

    seconds: float
    seed: int
    symbols: int = 8
    stopped_s: float = 30.0
    pauses_s: tuple[float, float] = (4.0, 16.0)
    settled_s: float = 300.0


@dataclass
class Outcome:
    alerts_expected: set[Alert] = field(default_factory=set)
    alerts: Counter[Alert] = field(default_factory=Counter)
    candles_expected: set[Candle] = field(default_factory=set)
    candles: set[Candle] = field(default_factory=set)
    faults: Counter[str] = field(default_factory=Counter)
    """A fault, for example `kill run feed` -> how often it was done."""
    severed: int = 0
    """The number of connections cut."""
    health: object = None
    """The last answer of `/api/health`."""
    ended: bool = False
    """Whether `screener up` ended by itself."""

    def differences(self) -> dict[str, object]:
        """Return everything that is not as it should be; empty if all is well."""
        found = {
            "alerts missing": sorted(self.alerts_expected - self.alerts.keys()),
            "alerts too many": sorted(self.alerts.keys() - self.alerts_expected),
            "alerts twice": sorted(alert for alert, count in self.alerts.items() if count > 1),
            "candles missing": sorted(self.candles_expected - self.candles),
            "candles too many": sorted(self.candles - self.candles_expected),
            "nothing expected": not (self.alerts_expected and self.candles_expected),
            "ended by itself": self.ended,
            "not healthy": None if _healthy(self.health) else self.health or "no answer",
        }
        return {name: what for name, what in found.items() if what}


async def trial(directory: Path, plan: Plan, say: Callable[[str], None]) -> Outcome:
    chance = random.Random(plan.seed)  # reason: a trial that can be repeated
    outcome = Outcome()
    given = {
        "SCREENER_SIMULATED_SEED": str(plan.seed),
        "SCREENER_ALERT_MODE": "close",
    }
    with running(directory, "--symbols", str(plan.symbols), **given) as up:
        await up.is_up(plan.settled_s)
        await minutes_of_exchange(_exchange_url(up))  # what cannot be compared shall fail at once
        await _apply_rules(directory)
        # one minute until the rules are active, and one that `prev` must remember
        first_ms = (now_in_ms() // MINUTE_MS + 2) * MINUTE_MS
        await asyncio.sleep((first_ms - now_in_ms()) / 1000)
        await _play(up, plan, chance, outcome, say)
        # up to the minute in which the last fault ended, once it is over
        last_ms = now_in_ms() // MINUTE_MS * MINUTE_MS
        await asyncio.sleep((last_ms + MINUTE_MS - now_in_ms()) / 1000 + 1.0)
        if up.process.poll() is None:
            await _compare(up, directory, (first_ms, last_ms), plan, outcome, say)
        outcome.ended = up.process.poll() is not None
    return outcome


async def _play(
    up: Up, plan: Plan, chance: random.Random, outcome: Outcome, say: Callable[[str], None]
) -> None:
    until_s = time.monotonic() + plan.seconds
    stopped: list[asyncio.Task[None]] = []
    while (left_s := until_s - time.monotonic()) > 0 and up.process.poll() is None:
        target, kind = chance.choice(TARGETS), chance.choice(KINDS)
        pause_s = chance.uniform(*plan.pauses_s)
        process = up.find(target)
        if process is None or not _runs(process):
            say(f"{left_s:5.0f} s left: {kind} {target}: it is away")
        else:
            outcome.faults[f"{kind} {target}"] += 1
            cut = ""
            if kind == "kill":
                kill(process)
            elif kind == "sever":
                severed = sever(process)
                outcome.severed += severed
                cut = f" ({severed} connections)"
            else:
                stopped.append(asyncio.create_task(stop_for(process, plan.stopped_s)))
            say(f"{left_s:5.0f} s left: {kind} {target}{cut}")
        await asyncio.sleep(pause_s)
    await asyncio.gather(*stopped)


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_STOPPED
    return False


async def _apply_rules(directory: Path) -> None:
    rules = directory / "chaos.yaml"
    rules.write_text(RULES)
    environ = os.environ | {"SCREENER_DATA_DIR": str(directory / "data")}
    command = [sys.executable, "-m", "app", "rules", "apply", str(rules)]
    await asyncio.to_thread(subprocess.run, command, env=environ, check=True, capture_output=True)


async def _compare(
    up: Up, directory: Path, span: tuple[int, int], plan: Plan, outcome: Outcome, say: Callable[[str], None]
) -> None:
    began_s = time.monotonic()

    async def minutes_are_told() -> bool:
        with suppress(aiohttp.ClientError, TimeoutError):  # it is being started again
            candles = await minutes_of_exchange(_exchange_url(up))
            inside = (candles.open_time_ms >= span[0]) & (candles.open_time_ms <= span[1])
            outcome.candles_expected = rows_of(candles.take(inside))
            outcome.alerts_expected = alerts_of_an_undisturbed_run(candles, RULES, *span)
            return True
        return False

    await eventually(minutes_are_told, plan.settled_s)
    say(f"expected: {len(outcome.alerts_expected)} alerts of {len(outcome.candles_expected)} candles")

    async def settled() -> bool:
        await _read(directory, span, outcome)
        outcome.health = await _health(up)
        await asyncio.sleep(1.0)  # the trial must not be what keeps the stages from getting on
        return not outcome.differences() or up.process.poll() is not None

    with suppress(AssertionError):  # what differs is told by the outcome
        await eventually(settled, plan.settled_s)
        # data still in the pipeline has arrived once the next minute has passed all stages
        end_ms = (now_in_ms() // MINUTE_MS + 1) * MINUTE_MS
        await eventually(lambda: _stored_until(directory, end_ms, plan.symbols), plan.settled_s)
        await eventually(settled, plan.settled_s)
    say(f"settled or given up after {time.monotonic() - began_s:.0f} s")


def _exchange_url(up: Up) -> str:
    return f"http://127.0.0.1:{up.ports['sim_exchange']}"


async def _health(up: Up) -> object:
    with suppress(aiohttp.ClientError, TimeoutError):
        async with aiohttp.ClientSession() as session, session.get(f"{up.url}/api/health") as answer:
            return await answer.json()
    return None


def _healthy(health: object) -> bool:
    return isinstance(health, dict) and health.get("status") == "ok"


async def _read(directory: Path, span: tuple[int, int], outcome: Outcome) -> None:
    alerts = await _rows(directory, _ALERTS, span)
    candles = await _rows(directory, _CANDLES, span)
    if alerts is not None and candles is not None:
        outcome.alerts = Counter((rule, symbol, int(at), str(id_)) for rule, symbol, at, id_ in alerts)
        outcome.candles = {(symbol, int(at), *ohlcv) for symbol, at, *ohlcv in candles}


async def _stored_until(directory: Path, open_ms: int, symbols: int) -> bool:
    rows = await _rows(directory, _CANDLES, (open_ms, open_ms))
    return rows is not None and len(rows) >= symbols


async def _rows(directory: Path, query: str, span: tuple[int, int]) -> list[tuple[Any, ...]] | None:
    """Return the rows of a query; None while the server is down."""
    urls = urls_of_running(directory / "data")
    if "postgres" not in urls:
        return None
    settings = Settings.load({}, postgres_url=urls["postgres"])
    with suppress(psycopg.OperationalError):
        async with await psycopg.AsyncConnection.connect(connection_url(settings.postgres())) as connection:
            cursor = await connection.execute(query, [time_ms / 1000 for time_ms in span])
            return await cursor.fetchall()
    return None


_ALERTS = """
SELECT rule_type, symbol, (extract(epoch FROM time) * 1000)::bigint - 60000, id
FROM alert_history
WHERE rule_type LIKE 'chaos_%%' AND time - interval '1 minute' BETWEEN to_timestamp(%s) AND to_timestamp(%s)
"""
_CANDLES = """
SELECT symbol, (extract(epoch FROM time) * 1000)::bigint, open, high, low, close, volume, quote_volume
FROM candles_1m WHERE time BETWEEN to_timestamp(%s) AND to_timestamp(%s)
"""
