"""Which alerts get into the outbox, for which targets, and once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from app.database.migrate import migrate
from app.settings import Settings
from app.telemetry import webhook_metrics
from app.times import rfc3339
from app.webhooks.run import outbox_table
from app.webhooks.targets.store import TargetStore
from tests.support.alerts import RULES
from tests.support.eventually import eventually
from tests.support.metric_values import value_of
from tests.support.webhooks import START_MS, Outbox, alert

METRICS = webhook_metrics(CollectorRegistry())
HOOK = "https://example.com/hook"


def outbox_write(box: Outbox, max_age_ms: int = 3_600_000) -> Callable[..., Awaitable[int]]:
    """How the role writes alerts into the outbox."""
    return outbox_table("alerts", max_age_ms, box.clock, lambda: None, METRICS).write


async def test_an_alert_is_written_once_for_a_target_however_often_it_is_read(box: Outbox) -> None:
    await box.add(HOOK)
    await box.add(HOOK)
    assert await box.put(alert(1), alert(2), alert(1)) == 4
    assert await box.put(alert(1), alert(2), alert(3)) == 2
    assert [delivery.seq for delivery in await box.deliveries()] == [1, 1, 2, 2, 3, 3]


@dataclass(frozen=True)
class Wish:
    """What a target wants, in the words of its owner; `user` decides which of the two ways."""

    user: str | None
    rules: tuple[str, ...]
    symbols: tuple[str, ...]
    severities: tuple[str, ...]
    subscriptions: tuple[tuple[str, str], ...]
    on: bool

    def wants(self, alert: dict[str, Any]) -> bool:
        if self.user is None:
            return all(
                not chosen or alert[field] in chosen
                for field, chosen in (
                    ("rule_type", self.rules),
                    ("symbol", self.symbols),
                    ("severity", self.severities),
                )
            )
        subscribed = any(
            rule in (alert["rule_type"], "*") and symbol in (alert["symbol"], "*")
            for rule, symbol in self.subscriptions
        )
        return self.on and (alert["rule_type"] in self.rules or "*" in self.rules or subscribed)


def random_wish(chance: random.Random, number: int) -> Wish:
    def some(of: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(chance.sample(of, chance.randint(0, len(of))))

    user = f"user-{number}" if chance.random() < 0.6 else None
    rules = (*RULES, "*") if user else RULES
    pairs = tuple({(chance.choice(rules), chance.choice(("AUSDT", "BUSDT", "*"))) for _ in range(2)})
    return Wish(
        user, some(rules), some(("AUSDT", "BUSDT")), some(("critical", "medium")),
        pairs if chance.random() < 0.5 else (), chance.random() < 0.8,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
async def test_each_target_gets_exactly_the_alerts_that_it_wants(box: Outbox, seed: int) -> None:
    chance = random.Random(seed)
    wishes: dict[Any, Wish] = {}
    for number in range(40):
        wish = random_wish(chance, number)
        if wish.user is None:
            target = await box.add(
                HOOK, rule_types=wish.rules, symbols=wish.symbols, severities=wish.severities
            )
            wishes[target.id] = wish
            continue
        target_id = await box.user(wish.user, HOOK, *wish.rules, on=wish.on)
        for rule, symbol in wish.subscriptions:
            await box.connection.execute(
                "INSERT INTO user_alert_subscriptions (user_id, rule_type, symbol) VALUES (%s, %s, %s)",
                (wish.user, rule, symbol),
            )
        if target_id is not None:
            wishes[target_id] = wish
    alerts = [alert(number, symbol=chance.choice(("AUSDT", "BUSDT", "CUSDT"))) for number in range(30)]
    await box.put(*alerts)
    expected = {
        (target_id, one.seq)
        for target_id, wish in wishes.items()
        for one in alerts
        if wish.wants(one.as_dict())
    }
    assert {(delivery.target_id, delivery.seq) for delivery in await box.deliveries()} == expected
    assert 100 < len(expected) < 30 * len(wishes)


async def test_what_was_published_before_a_target_was_there_is_not_sent_to_it(box: Outbox) -> None:
    await box.add(HOOK)
    before, after = ({"publish_ts_ms": START_MS + offset} for offset in (-1, 0))
    assert await box.put(alert(1, timings=before), alert(2, timings=after)) == 1


async def test_a_target_that_is_deleted_meanwhile_keeps_no_alert_from_the_others(box: Outbox) -> None:
    going, staying = await box.add(HOOK), await box.add(HOOK)
    write = outbox_write(box)
    fresh = alert(1, timestamp=rfc3339(START_MS))
    async with box.pool.connection() as deletes, box.pool.connection() as writes:
        async with deletes.transaction():
            await TargetStore(deletes, box.clock).remove(going.id)
            writing = asyncio.create_task(write(writes, [fresh]))

            async def waits_for_the_deletion() -> bool:
                query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
                cursor = await box.connection.execute(query, (writes.info.backend_pid,))
                return await cursor.fetchone() == (1,)

            await eventually(waits_for_the_deletion)
        assert await writing == 1
    assert [one.target_id for one in await box.deliveries()] == [staying.id]


@pytest.mark.parametrize(("minutes", "sent"), [(60, [1, 3]), (0, [1, 2, 3])])
async def test_alerts_that_were_old_when_they_were_published_are_counted_and_not_sent(
    box: Outbox, minutes: int, sent: list[int]
) -> None:
    """How long an alert waited for the role since it was published does not count."""
    await box.add(HOOK)
    write = outbox_write(box, max_age_ms=minutes * 60_000)
    hour_ms = 3_600_000
    before = value_of(METRICS.stale)
    box.clock.advance_ms(10 * hour_ms)
    ages_ms = {1: hour_ms, 2: hour_ms + 1, 3: -hour_ms}
    alerts = [alert(seq, timestamp=rfc3339(START_MS - age_ms)) for seq, age_ms in ages_ms.items()]
    assert await write(box.connection, alerts) == len(sent)
    assert [delivery.seq for delivery in await box.deliveries()] == sent
    assert value_of(METRICS.stale) - before == 3 - len(sent)


async def test_alerts_of_history_that_was_being_filled_are_not_sent_whatever_their_age_may_be(
    box: Outbox,
) -> None:
    await box.add(HOOK)
    write = outbox_write(box, max_age_ms=0)
    before = value_of(METRICS.stale)
    assert await write(box.connection, [alert(1), alert(2, backfilled=True), alert(3)]) == 2
    assert [delivery.seq for delivery in await box.deliveries()] == [1, 3]
    assert value_of(METRICS.stale) - before == 1


async def test_alerts_of_shadow_rules_are_not_sent_and_not_counted_as_late(box: Outbox) -> None:
    await box.add(HOOK)
    write = outbox_write(box, max_age_ms=0)
    before = value_of(METRICS.stale)
    assert await write(box.connection, [alert(1), alert(2, shadow=True)]) == 1
    assert await write(box.connection, [alert(3, shadow=True)]) == 0
    assert [delivery.seq for delivery in await box.deliveries()] == [1]
    assert value_of(METRICS.stale) == before


async def test_the_outbox_comes_with_the_migrations(settings: Settings) -> None:
    assert "0005_webhooks" in migrate(settings.postgres())
