"""Cooldowns in a real Redis, and without it while it is away."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

import app.alerts.cooldowns
from agents.alerts import Alerts
from app.alerts.cooldowns import Cooldowns
from app.cli.server_watch import rewind_cooldowns
from app.clock import SystemClock
from app.local.servers.embedded import EmbeddedStack
from app.process.faust_worker.stage_edges import StageEdges
from app.process.quarantine import Attempts
from app.rules.evaluation.rulebook import RuleBook, RuleFault
from app.rules.rule import Rule
from app.settings import Settings
from app.telemetry import alert_metrics, pipeline_metrics
from app.times import rfc3339
from app.wire.frames import FrameInfo, encode_metrics
from app.wire.redis import connect_redis
from tests.support.alerts import make_alert, store
from tests.support.database import migrated
from tests.support.eventually import eventually
from tests.support.metric_batches import metrics_batch
from tests.support.metric_values import value_of
from tests.support.servers import settings_for

METRICS = alert_metrics(CollectorRegistry())

BTC = ("futures_pioneer_bull", "BTCUSDT")
ETH = ("futures_pioneer_bull", "ETHUSDT")
T = 1_700_000_000_000


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    connected = connect_redis(settings.server_urls().redis)
    yield connected
    await connected.aclose()


def fallbacks() -> float:
    return value_of(METRICS.cooldown_fallbacks)


async def test_what_one_worker_records_another_knows(settings: Settings, redis: Redis):
    one, other = Cooldowns(redis, settings.names(), METRICS), Cooldowns(redis, settings.names(), METRICS)
    await one.record({BTC: T})
    assert await other.last_fired([ETH, BTC, BTC]) == {BTC: T}


async def test_the_later_of_memory_and_redis_counts(settings: Settings, redis: Redis):
    one, other = Cooldowns(redis, settings.names(), METRICS), Cooldowns(redis, settings.names(), METRICS)
    await one.record({BTC: T, ETH: T})
    await other.record({BTC: T + 5, ETH: T - 5})
    await redis.set(settings.name(f"cooldown:{ETH[0]}:{ETH[1]}"), T - 5)
    assert await one.last_fired([BTC, ETH]) == {BTC: T + 5, ETH: T}


async def test_redis_is_asked_once_for_a_key_until_its_partitions_may_have_moved(
    settings: Settings, redis: Redis
):
    one, other = Cooldowns(redis, settings.names(), METRICS), Cooldowns(redis, settings.names(), METRICS)
    assert await one.last_fired([BTC]) == {}
    await other.record({BTC: T, ETH: T})
    assert await one.last_fired([BTC, ETH]) == {ETH: T}
    one.forget()
    assert await one.last_fired([BTC, ETH]) == {BTC: T, ETH: T}


async def test_forgetting_leaves_what_redis_knows(settings: Settings, redis: Redis):
    cooldowns = Cooldowns(redis, settings.names(), METRICS)
    await cooldowns.record({BTC: T})
    cooldowns.forget()
    assert await cooldowns.last_fired([BTC]) == {BTC: T}
    await redis.delete(*await redis.keys(settings.name("*")))
    cooldowns.forget()
    assert await cooldowns.last_fired([BTC]) == {}


async def test_a_fire_that_is_not_written_yet_outlives_a_rebalance(settings: Settings, redis: Redis):
    cooldowns = Cooldowns(redis, settings.names(), METRICS)
    cooldowns.remember({BTC: T})
    cooldowns.forget()
    cooldowns.forget_symbols([BTC[1]])
    assert await cooldowns.last_fired([BTC]) == {BTC: T}
    await cooldowns.write({BTC: T})
    cooldowns.forget()
    assert len(cooldowns) == 0
    assert await cooldowns.last_fired([BTC]) == {BTC: T}


async def test_a_symbol_that_left_takes_no_memory_of_the_worker_and_redis_keeps_its_fires(
    settings: Settings, redis: Redis
):
    cooldowns = Cooldowns(redis, settings.names(), METRICS)
    rule = Rule("known", "price > 0", "info", mode="close", cooldown_s=0)
    stage = alert_stage(RuleBook.compile([rule], "close"), cooldowns)

    async def take(minute: int, *symbols: str) -> None:
        rows = [(symbol, T // 60_000 * 60_000 + minute * 60_000, {"close_1m": 1.0}) for symbol in symbols]
        await stage.handle(0, encode_metrics(metrics_batch(rows), FrameInfo()))

    await take(0, "AUSDT", "BUSDT")
    assert len(cooldowns) == 2
    # a day later, and at the second look an hour after that
    for minute in (1_441, 1_502):
        await take(minute, "BUSDT")
    assert len(cooldowns) == 1
    assert set(await cooldowns.last_fired([("known", "AUSDT"), ("known", "BUSDT")])) == {
        ("known", "AUSDT"),
        ("known", "BUSDT"),
    }


async def test_a_rule_that_is_gone_takes_no_memory_of_the_worker(settings: Settings, redis: Redis):
    cooldowns = Cooldowns(redis, settings.names(), METRICS)
    rules = [Rule(name, "price > 0", "info", mode="close", cooldown_s=0) for name in ("one", "two")]
    stage = alert_stage(RuleBook.compile(rules, "close"), cooldowns)
    frame = encode_metrics(metrics_batch([("AUSDT", T // 60_000 * 60_000, {"close_1m": 1.0})]), FrameInfo())
    await stage.handle(0, frame)
    assert len(cooldowns) == 2
    await stage.settle()
    stage._engine.rules.book = RuleBook.compile(rules[:1], "close")
    await stage.handle(0, frame)
    assert len(cooldowns) == 1


async def test_fires_that_redis_missed_are_kept_whoever_is_gone(settings: Settings):
    async with connect_redis("redis://127.0.0.1:1") as away:
        cooldowns = Cooldowns(away, settings.names(), METRICS)
        await cooldowns.record({BTC: T, ETH: T})
        cooldowns.forget_symbols(["BTCUSDT"])
        cooldowns.forget_other_rules(["another"])
        assert await cooldowns.last_fired([BTC, ETH]) == {BTC: T, ETH: T}


@dataclass
class _Rules:
    book: RuleBook

    def switch_off(self, faults: Sequence[RuleFault]) -> None:
        assert not faults


class _Table:
    def write(self, partition: int, *packed: object) -> None: ...


def alert_stage(book: RuleBook, cooldowns: Cooldowns) -> Any:
    async def publish(_: list[tuple[str, bytes]]) -> None: ...

    nothing: Any = None
    registry = CollectorRegistry()
    attempts = Attempts(Path(os.devnull), "alerts", pipeline_metrics(registry))
    edges = StageEdges(nothing, nothing, nothing, attempts, SystemClock(), registry)
    table: Any = _Table()
    return Alerts(
        table,
        table,
        table,
        _no_history,
        _Rules(book),
        cooldowns,
        publish,
        backfilled_after_ms=0,
        edges=edges,
    )


async def _no_history(*_: int) -> None:
    """The rules of these tests need none."""


async def test_cooldowns_go_back_to_the_alerts_stored_before_a_time(settings: Settings, redis: Redis):
    minute_ms = T // 60_000 * 60_000
    async with migrated(settings):
        await Cooldowns(redis, settings.names(), METRICS).record(
            {BTC: minute_ms + 60_000, ETH: minute_ms + 60_000}
        )
        stored = [
            make_alert(0, symbol=symbol, rule_type=rule) | {"id": str(uuid4()), "timestamp": rfc3339(end_ms)}
            for (rule, symbol), end_ms in (
                (BTC, minute_ms),
                (BTC, minute_ms + 60_000),
                (BTC, minute_ms + 120_000),
            )
        ]
        await store(settings, range(len(stored)), stored)
        await rewind_cooldowns(settings.postgres(), settings.redis(), "close", minute_ms + 90_000)
        # the fire that was recorded, and of which no alert was stored, is forgotten
        assert await Cooldowns(redis, settings.names(), METRICS).last_fired([BTC, ETH]) == {BTC: minute_ms}


async def test_namespaces_do_not_see_each_other(settings: Settings, redis: Redis):
    await Cooldowns(redis, settings.names(), METRICS).record({BTC: T})
    other = settings.model_copy(update={"namespace": settings.namespace + "_b"})
    assert await Cooldowns(redis, other.names(), METRICS).last_fired([BTC]) == {}


async def test_every_key_expires_in_the_end(settings: Settings, redis: Redis):
    await Cooldowns(redis, settings.names(), METRICS).record({BTC: T, ETH: T})
    keys = await redis.keys(settings.name("*"))
    assert len(keys) == 2
    assert all([await redis.ttl(key) > 24 * 3600 for key in keys])


async def test_a_value_that_is_no_time_is_as_none(settings: Settings, redis: Redis):
    cooldowns = Cooldowns(redis, settings.names(), METRICS)
    await cooldowns.record({BTC: T, ETH: T})
    cooldowns.forget()
    for key in await redis.keys(settings.name("*BTC*")):
        await redis.set(key, "yesterday")
    assert await cooldowns.last_fired([BTC, ETH]) == {ETH: T}


async def test_nothing_asked_is_nothing_known(settings: Settings, redis: Redis):
    cooldowns = Cooldowns(redis, settings.names(), METRICS)
    await cooldowns.record({})
    assert await cooldowns.last_fired([]) == {}


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedStack]:
    with EmbeddedStack.start(tmp_path, ["redis"]) as running:
        yield running


async def test_a_frame_of_hundreds_of_alerts_costs_one_look_up_and_one_record(own_redis: EmbeddedStack):
    redis = connect_redis(own_redis.urls["redis"])
    cooldowns = Cooldowns(redis, settings_for(own_redis.urls).names(), METRICS)
    fired = {("futures_pioneer_bull", f"S{number}USDT"): T + number for number in range(500)}
    await cooldowns.record({BTC: T})
    before = await commands(redis)
    assert await cooldowns.last_fired(fired) == {}
    assert await commands(redis) - before == Counter({"mget": 1})
    before = await commands(redis)
    await cooldowns.record(fired)
    # SET runs inside the one script
    assert await commands(redis) - before == Counter({"eval": 1, "set": 500})
    before = await commands(redis)
    assert await cooldowns.last_fired([]) == {}
    await cooldowns.record({})
    assert await commands(redis) == before
    await redis.aclose()


async def commands(redis: Redis) -> Counter[str]:
    """How often the server ran each command, this question apart."""
    stats = await redis.info("commandstats")
    found = Counter({name.removeprefix("cmdstat_"): figures["calls"] for name, figures in stats.items()})
    del found["info"]
    return found


async def test_without_redis_the_worker_goes_on_from_memory_and_takes_it_up_again(
    own_redis: EmbeddedStack, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app.alerts.cooldowns, "_RETRY_AFTER_S", 0.3)
    settings = settings_for(own_redis.urls)
    process = own_redis.processes["redis"]
    redis = connect_redis(own_redis.urls["redis"])
    cooldowns = Cooldowns(redis, settings.names(), METRICS)
    await cooldowns.record({BTC: T})
    before = fallbacks()

    process.kill()
    assert await cooldowns.last_fired([BTC, ETH]) == {BTC: T}
    assert cooldowns.degraded
    await cooldowns.record({ETH: T + 1})
    cooldowns.forget()
    assert await cooldowns.last_fired([BTC, ETH]) == {BTC: T, ETH: T + 1}
    assert fallbacks() >= before + 3

    process.start()
    await eventually(lambda: answers(redis))
    await eventually(lambda: not cooldowns.degraded)
    await cooldowns.record({BTC: T + 60_000})
    assert await eventually(lambda: known_to_another(redis, settings)) == {BTC: T + 60_000, ETH: T + 1}
    counted = fallbacks()
    assert await cooldowns.last_fired([BTC]) == {BTC: T + 60_000}
    assert fallbacks() == counted
    await redis.aclose()


def degraded_gauge() -> float:
    return value_of(METRICS.cooldown_degraded)


async def test_what_redis_missed_outlives_a_rebalance_and_is_written_when_it_is_back(
    own_redis: EmbeddedStack, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app.alerts.cooldowns, "_RETRY_AFTER_S", 0.0)
    monkeypatch.setattr(app.alerts.cooldowns, "_MISSED_PER_CALL", 1)
    settings = settings_for(own_redis.urls)
    process = own_redis.processes["redis"]
    redis = connect_redis(own_redis.urls["redis"])
    cooldowns = Cooldowns(redis, settings.names(), METRICS)
    assert degraded_gauge() == 0

    process.kill()
    await cooldowns.record({BTC: T, ETH: T})
    assert degraded_gauge() == 1
    cooldowns.forget()
    process.start()
    await eventually(lambda: answers(redis))
    assert await Cooldowns(redis, settings.names(), METRICS).last_fired([BTC, ETH]) == {}
    await Cooldowns(redis, settings.names(), METRICS).record({ETH: T + 7})

    cooldowns.forget()
    assert await cooldowns.last_fired([BTC, ETH]) == {BTC: T, ETH: T + 7}
    assert degraded_gauge() == 0
    assert await Cooldowns(redis, settings.names(), METRICS).last_fired([BTC, ETH]) == {BTC: T, ETH: T + 7}
    cooldowns.forget()
    await redis.delete(*await redis.keys(settings.name("*")))
    assert await cooldowns.last_fired([BTC]) == {}
    await redis.aclose()


async def answers(redis: Redis) -> bool:
    try:
        return bool(await redis.ping())
    except Exception:
        return False


async def known_to_another(redis: Redis, settings: Settings) -> dict[tuple[str, str], int]:
    return await Cooldowns(redis, settings.names(), METRICS).last_fired([BTC, ETH])
