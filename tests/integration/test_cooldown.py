"""Cooldowns in a real Redis, and without it while it is away."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

import app.cooldown
from app.cooldown import Cooldowns, connect_redis
from app.settings import Settings
from app.stack.embedded import EmbeddedStack
from app.telemetry import alert_metrics
from tests.support.eventually import eventually
from tests.support.servers import settings_for

BTC = ("futures_pioneer_bull", "BTCUSDT")
ETH = ("futures_pioneer_bull", "ETHUSDT")
T = 1_700_000_000_000


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    connected = connect_redis(settings.server_urls().redis)
    yield connected
    await connected.aclose()


def fallbacks() -> float:
    return alert_metrics().cooldown_fallbacks._value.get()


async def test_what_one_worker_records_another_knows(settings: Settings, redis: Redis):
    one, other = Cooldowns(redis, settings), Cooldowns(redis, settings)
    await one.record({BTC: T})
    assert await other.last_fired([ETH, BTC, BTC]) == {BTC: T}


async def test_the_later_of_memory_and_redis_counts(settings: Settings, redis: Redis):
    one, other = Cooldowns(redis, settings), Cooldowns(redis, settings)
    await one.record({BTC: T, ETH: T})
    await other.record({BTC: T + 5})
    assert await one.last_fired([BTC, ETH]) == {BTC: T + 5, ETH: T}
    await redis.delete(*await redis.keys(settings.name("*")))
    assert await one.last_fired([BTC, ETH]) == {BTC: T, ETH: T}


async def test_forgetting_leaves_what_redis_knows(settings: Settings, redis: Redis):
    cooldowns = Cooldowns(redis, settings)
    await cooldowns.record({BTC: T})
    cooldowns.forget()
    assert await cooldowns.last_fired([BTC]) == {BTC: T}
    await redis.delete(*await redis.keys(settings.name("*")))
    assert await cooldowns.last_fired([BTC]) == {}


async def test_namespaces_do_not_see_each_other(settings: Settings, redis: Redis):
    await Cooldowns(redis, settings).record({BTC: T})
    other = settings.model_copy(update={"namespace": settings.namespace + "_b"})
    assert await Cooldowns(redis, other).last_fired([BTC]) == {}


async def test_every_key_expires_in_the_end(settings: Settings, redis: Redis):
    await Cooldowns(redis, settings).record({BTC: T, ETH: T})
    keys = await redis.keys(settings.name("*"))
    assert len(keys) == 2
    assert all([await redis.ttl(key) > 24 * 3600 for key in keys])


async def test_a_value_that_is_no_time_is_as_none(settings: Settings, redis: Redis):
    cooldowns = Cooldowns(redis, settings)
    await cooldowns.record({BTC: T, ETH: T})
    cooldowns.forget()
    for key in await redis.keys(settings.name("*BTC*")):
        await redis.set(key, "yesterday")
    assert await cooldowns.last_fired([BTC, ETH]) == {ETH: T}


async def test_nothing_asked_is_nothing_known(settings: Settings, redis: Redis):
    cooldowns = Cooldowns(redis, settings)
    await cooldowns.record({})
    assert await cooldowns.last_fired([]) == {}


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedStack]:
    with EmbeddedStack.start(tmp_path, ["redis"]) as running:
        yield running


async def test_a_frame_of_hundreds_of_alerts_costs_one_look_up_and_one_record(own_redis: EmbeddedStack):
    redis = connect_redis(own_redis.urls["redis"])
    cooldowns = Cooldowns(redis, settings_for(own_redis.urls))
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
    monkeypatch.setattr(app.cooldown, "_RETRY_AFTER_S", 0.3)
    settings = settings_for(own_redis.urls)
    process = own_redis.processes["redis"]
    redis = connect_redis(own_redis.urls["redis"])
    cooldowns = Cooldowns(redis, settings)
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
    return alert_metrics().cooldown_degraded._value.get()


async def test_what_redis_missed_outlives_a_rebalance_and_is_written_when_it_is_back(
    own_redis: EmbeddedStack, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app.cooldown, "_RETRY_AFTER_S", 0.0)
    monkeypatch.setattr(app.cooldown, "_MISSED_PER_CALL", 1)
    settings = settings_for(own_redis.urls)
    process = own_redis.processes["redis"]
    redis = connect_redis(own_redis.urls["redis"])
    cooldowns = Cooldowns(redis, settings)
    assert degraded_gauge() == 0

    process.kill()
    await cooldowns.record({BTC: T, ETH: T})
    assert degraded_gauge() == 1
    cooldowns.forget()
    process.start()
    await eventually(lambda: answers(redis))
    assert await Cooldowns(redis, settings).last_fired([BTC, ETH]) == {}
    await Cooldowns(redis, settings).record({ETH: T + 7})

    cooldowns.forget()
    assert await cooldowns.last_fired([BTC, ETH]) == {BTC: T, ETH: T + 7}
    assert degraded_gauge() == 0
    assert await Cooldowns(redis, settings).last_fired([BTC, ETH]) == {BTC: T, ETH: T + 7}
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
    return await Cooldowns(redis, settings).last_fired([BTC, ETH])
