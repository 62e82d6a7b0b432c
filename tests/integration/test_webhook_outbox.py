"""The outbox in PostgreSQL: who gets what, in which message, once, and for how long it is kept."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.clock import SystemClock
from app.database.connection import open_pool
from app.database.migrate import migrate
from app.errors import BadWebhookTarget, NoSuchWebhook, SettingsError
from app.process.quarantine import Attempts
from app.settings import Settings
from app.telemetry import DatabaseMetrics, pipeline_metrics, webhook_metrics
from app.times import rfc3339
from app.webhooks.delivery import attempt
from app.webhooks.delivery.housekeeping import delete_old, keep_house, measure
from app.webhooks.delivery.message import DIGEST_MAX_ALERTS
from app.webhooks.delivery.outbox import Claimed, Room, Settled, claim, load_messages, release, settle
from app.webhooks.delivery.post import Answer
from app.webhooks.delivery.verdicts import Past, verdict
from app.webhooks.run import outbox_table
from app.webhooks.targets.settings_targets import put_settings_target
from app.webhooks.targets.store import TargetStore
from app.webhooks.targets.urls import AllowedHosts
from tests.support.alerts import RULES
from tests.support.eventually import eventually
from tests.support.metric_values import UNREAD, value_of
from tests.support.webhooks import START_MS, Outbox, alert, outbox, receiving

METRICS = webhook_metrics(CollectorRegistry())

LEASE_MS = 20_000
DAY_MS = 24 * 3_600_000
PLENTY = Room(1_000, 1_000, {})
HOOK = "https://example.com/hook"
TAKEN = Answer("delivered", 200, None, 1)


@pytest.fixture
async def box(settings: Settings) -> AsyncIterator[Outbox]:
    async with outbox(settings) as made:
        yield made


def outbox_write(box: Outbox, max_age_ms: int = 3_600_000) -> Callable[..., Awaitable[int]]:
    """How the role writes alerts into the outbox."""
    return outbox_table("alerts", max_age_ms, box.clock, lambda: None, METRICS).write


async def take(box: Outbox, room: Room = PLENTY) -> list[Claimed]:
    async with box.connection.transaction():
        return await claim(box.connection, box.clock.now_ms(), LEASE_MS, room)


async def end(box: Outbox, claimed: list[Claimed], answer: Answer = TAKEN) -> None:
    now_ms = box.clock.now_ms()
    settled = [
        Settled(one, answer, verdict(answer, Past(one.attempts), now_ms, 0.0), now_ms) for one in claimed
    ]
    async with box.connection.transaction():
        await settle(box.connection, settled, now_ms)


def seqs(claimed: list[Claimed]) -> list[list[int]]:
    return [[alert.seq for alert in one.message.alerts] for one in claimed]


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


async def test_a_message_is_claimed_by_one_sender_and_by_another_when_the_lease_is_over(box: Outbox) -> None:
    await box.add(HOOK)
    await box.put(alert(1), alert(2))
    first = await take(box, Room(1, 1, {}))
    second = await take(box)
    assert (seqs(first), seqs(second)) == ([[1]], [[2]])
    box.clock.advance_ms(LEASE_MS - 1)
    assert await take(box) == []
    box.clock.advance_ms(1)
    again = await take(box)
    assert seqs(again) == [[1], [2]]
    assert {one.message.id for one in again} == {one.message.id for one in first + second}

    await end(box, first)
    assert {delivery.status for delivery in await box.deliveries()} == {"pending"}
    await end(box, again)
    assert {delivery.status for delivery in await box.deliveries()} == {"delivered"}
    _, attempts = await box.log().get(first[0].message.delivery_id)
    assert len(attempts) == 2


async def test_two_senders_at_once_share_the_messages_without_one_in_common(box: Outbox) -> None:
    await box.add(HOOK)
    await box.put(*(alert(number) for number in range(40)))
    async with box.pool.connection() as one, box.pool.connection() as two, one.transaction():
        mine = await claim(one, box.clock.now_ms(), LEASE_MS, Room(15, 15, {}))
        # the first is not committed yet: its rows are locked, and skipped
        theirs = await claim(two, box.clock.now_ms(), LEASE_MS, PLENTY)
    assert len(mine) == 15
    assert len(theirs) == 25
    assert sorted(seq for [seq] in seqs(mine) + seqs(theirs)) == list(range(40))


async def test_what_is_released_is_due_at_once(box: Outbox) -> None:
    await box.add(HOOK)
    await box.put(alert(1))
    claimed = await take(box)
    await release(box.connection, claimed)
    assert seqs(await take(box)) == [[1]]


async def test_one_busy_target_leaves_room_for_the_others(box: Outbox) -> None:
    busy = await box.add(HOOK, symbols=("AUSDT",))
    await box.add(HOOK, symbols=("BUSDT",))
    await box.put(*(alert(number, symbol="AUSDT") for number in range(100)), alert(100, symbol="BUSDT"))
    claimed = await take(box, Room(10, 4, {busy.id: 1}))
    assert seqs(claimed) == [[0], [1], [2], [100]]


async def test_slow_targets_share_what_is_theirs_and_those_with_least_under_way_come_first(
    box: Outbox,
) -> None:
    slow = [(await box.add(f"https://slow{number}.example/")).id for number in range(3)]
    quick = (await box.add("https://quick.example/")).id
    await box.put(*(alert(number) for number in range(10)))
    taken = await take(box, Room(20, 8, {}, shared=9, slow=slow, slow_total=5))
    # 5 of the slow ones, the 4 of the quick one that fit into the shared part
    assert Counter(one.target_id for one in taken)[quick] == 4
    assert sorted(Counter(one.target_id for one in taken if one.target_id != quick).values()) == [1, 2, 2]
    other = (await box.add("https://other.example/")).id
    await box.put(*(alert(number) for number in range(10, 12)))
    taken = await take(box, Room(3, 8, {quick: 4}, shared=0, slow=slow, slow_total=0))
    assert [one.target_id for one in taken] == [other]


async def test_a_digest_gathers_until_its_minute_is_over_and_is_one_message_from_then_on(box: Outbox) -> None:
    async with receiving() as receiver:
        await box.add(receiver.url, digest_s=60)
        sender = box.sender()
        await box.put(alert(1), alert(2))
        box.clock.advance_ms(59_999)
        await box.put(alert(3))
        assert await sender.deliver_due() == 0
        box.clock.advance_ms(1)
        receiver.says(500)
        await box.put(alert(4))
        assert await sender.deliver_due() == 1
        receiver.says(200)
        box.clock.advance_ms(5_000)
        assert await sender.deliver_due() == 1
        box.clock.advance_ms(60_000)
        assert await sender.deliver_due() == 1
    first, again, second = receiver.received
    assert first.body == again.body
    assert first.id == again.id != second.id
    assert [one["seq"] for one in first.json["data"]["alerts"]] == [1, 2, 3]
    assert [one["seq"] for one in second.json["data"]["alerts"]] == [4]
    deliveries = await box.deliveries()
    assert [(one.status, one.attempts) for one in deliveries] == [("delivered", 2)] * 3 + [("delivered", 1)]


async def test_many_alerts_of_a_digest_go_in_several_messages(box: Outbox) -> None:
    await box.add(HOOK, digest_s=60)
    count = 2 * DIGEST_MAX_ALERTS + 3
    await box.put(*(alert(number) for number in range(count)))
    box.clock.advance_ms(60_000)
    found = seqs(await take(box))
    assert [len(part) for part in found] == [DIGEST_MAX_ALERTS, DIGEST_MAX_ALERTS, 3]
    assert [seq for part in found for seq in part] == list(range(count))


async def test_redelivering_one_alert_of_a_digest_sends_the_digest_again(box: Outbox) -> None:
    await box.add(HOOK, digest_s=60)
    await box.put(alert(1), alert(2))
    box.clock.advance_ms(60_000)
    await end(box, await take(box))
    assert await box.log().redeliver([(await box.deliveries())[1].id]) == 1
    assert seqs(await take(box)) == [[1, 2]]


async def test_the_settings_of_a_user_are_a_target_that_follows_them(box: Outbox) -> None:
    target_id = await box.user("a", HOOK, "*")
    assert target_id is not None
    store = box.targets("a")
    secret = await store.secret(target_id)
    await box.put(alert(1))
    assert len(await take(box)) == 1

    await box.user("a", HOOK, "*", on=False)
    assert (await store.get(target_id)).disabled_reason == "off"
    box.clock.advance_ms(LEASE_MS)
    assert await box.put(alert(2)) == 0
    assert await take(box) == []

    await box.user("a", HOOK, "*")
    assert await store.secret(target_id) == secret
    assert seqs(await take(box)) == [[1]]

    await box.user("a", "https://discord.com/api/webhooks/1/abc", "*")
    changed = await store.get(target_id)
    assert (changed.format, changed.enabled) == ("discord", True)
    assert await store.secret(target_id) != secret

    await box.user("a", None, "*")
    assert not (await store.get(target_id)).enabled
    await box.connection.execute("DELETE FROM user_settings WHERE user_id = 'a'")
    assert await store.all() == []
    assert await box.deliveries() == []


async def test_a_url_in_the_settings_that_cannot_be_a_target_is_one_that_is_off(box: Outbox) -> None:
    target_id = await box.user("a", "https://169.254.169.254/latest", "*")
    assert target_id is not None
    assert (await box.targets("a").get(target_id)).disabled_reason == "bad_url"
    assert await box.put(alert(1)) == 0
    await box.user("a", HOOK, "*")
    assert await box.put(alert(2)) == 1


async def test_a_target_that_said_gone_is_on_again_with_another_url_only(box: Outbox) -> None:
    target_id = await box.user("a", HOOK, "*")
    assert target_id is not None
    await box.put(alert(1))
    await end(box, await take(box), Answer("gone", 410, None, 1))
    await box.user("a", HOOK, "*", "futures_pioneer_bull")
    assert (await box.targets("a").get(target_id)).disabled_reason == "gone"
    await box.user("a", HOOK + "2", "*")
    assert (await box.targets("a").get(target_id)).enabled


async def test_what_an_old_url_answered_does_not_touch_the_new_one(box: Outbox) -> None:
    target_id = await box.user("a", HOOK, "*")
    assert target_id is not None
    await box.put(alert(1))
    claimed = await take(box)
    await box.user("a", HOOK + "2", "*")
    await end(box, claimed, Answer("gone", 410, None, 1))
    assert (await box.targets("a").get(target_id)).enabled


async def test_a_user_neither_sees_nor_changes_what_is_another_s(box: Outbox) -> None:
    mine, theirs = await box.user("a", HOOK, "*"), await box.user("b", HOOK + "-hush", "*")
    operators = await box.add(HOOK)
    assert mine is not None
    assert theirs is not None
    await box.put(alert(1))
    store, log = box.targets("a"), box.log("a")
    assert [target.id for target in await store.all()] == [mine]
    assert {delivery.target_id for delivery in await log.newest(100)} == {mine}
    assert await log.newest(100, target_id=theirs) == []
    foreign = [one for one in await box.deliveries() if one.target_id != mine]
    before = (await box.targets().all(), await box.deliveries(), await box.targets("b").secret(theirs))
    for other in (theirs, operators.id):
        for act in (
            store.get,
            store.secret,
            store.rotate_secret,
            store.enable,
            store.switch_off,
            store.remove,
        ):
            with pytest.raises(NoSuchWebhook):
                await act(other)
        with pytest.raises(NoSuchWebhook):
            await store.set_digest(other, 60)
    for delivery in foreign:
        with pytest.raises(NoSuchWebhook):
            await log.get(delivery.id)
    with pytest.raises(NoSuchWebhook):
        await log.redeliver([delivery.id for delivery in foreign])
    assert before == (
        await box.targets().all(),
        await box.deliveries(),
        await box.targets("b").secret(theirs),
    )
    await end(box, await take(box), Answer("gone", 410, None, 1))
    assert await log.redeliver_dead(theirs) == 0
    assert await log.redeliver_dead() == 1
    assert [one.status for one in await box.log("b").newest(10)] == ["dead"]


async def test_a_rotated_secret_signs_beside_the_new_one_until_the_overlap_is_over(box: Outbox) -> None:
    target = await box.add(HOOK)
    old = await box.targets().secret(target.id)
    new = await box.targets().rotate_secret(target.id, overlap_hours=2)
    await box.put(alert(1), alert(2))
    [first] = await take(box, Room(1, 1, {}))
    assert first.secrets == (new, old)
    box.clock.advance_ms(2 * 3_600_000)
    [_, second] = await take(box)
    assert second.secrets == (new,)


async def test_targets_never_show_more_of_a_url_than_its_host(box: Outbox) -> None:
    target = await box.add("https://user-hooks.example.com/hush?token=hush")
    assert target.url == "https://user-hooks.example.com/…"
    assert "hush" not in repr([target, *await take(box)])


@pytest.mark.parametrize(
    ("url", "fields"),
    [
        ("https://10.0.0.1/hook", {}),
        ("https://api.telegram.org/bot1:a/sendMessage", {}),
        (HOOK, {"format": "telegram"}),
        (HOOK, {"digest_s": 3601}),
        (HOOK, {"digest_s": -1}),
    ],
)
async def test_a_target_that_could_not_work_is_refused(box: Outbox, url: str, fields: dict[str, Any]) -> None:
    with pytest.raises(BadWebhookTarget):
        await box.add(url, **fields)
    assert await box.targets().all() == []


async def test_the_target_of_the_deployment_follows_its_setting(box: Outbox) -> None:
    async def put(url: str | None) -> None:
        await put_settings_target(box.connection, url, AllowedHosts(), box.clock.now_ms())

    await put(HOOK)
    [target] = await box.targets().all()
    secret = await box.targets().secret(target.id)
    await put(HOOK)
    assert await box.put(alert(1)) == 1
    await put(None)
    assert await box.put(alert(2)) == 0
    await put(HOOK + "2")
    assert await box.put(alert(3)) == 1
    assert [one.id for one in await box.targets().all()] == [target.id]
    assert await box.targets().secret(target.id) != secret
    with pytest.raises(SettingsError, match="SCREENER_WEBHOOK_URL") as caught:
        await put("https://127.0.0.1/hush")
    assert "hush" not in str(caught.value)


async def test_only_what_is_settled_is_deleted_when_it_is_old(box: Outbox) -> None:
    waiting = await box.add(HOOK)
    await box.put(*(alert(number) for number in range(5)))
    claimed = await take(box)
    await end(box, claimed[:2])
    await end(box, claimed[2:3], Answer("gone", 410, None, 1))
    box.clock.advance_ms(14 * DAY_MS)
    assert await delete_old(box.connection, box.clock.now_ms(), 14) == 0
    box.clock.advance_ms(1)
    assert await delete_old(box.connection, box.clock.now_ms(), 14, batch_rows=2) == 3
    left = await box.deliveries()
    assert [(one.seq, one.status, one.error) for one in left] == [
        (3, "dead", "target_off"),
        (4, "dead", "target_off"),
    ]
    assert await box.log().redeliver_dead(waiting.id) == 2
    await box.targets().enable(waiting.id)
    assert seqs(await take(box)) == [[3], [4]]
    cursor = await box.connection.execute("SELECT seq FROM webhook_alerts ORDER BY seq")
    assert await cursor.fetchall() == [(3,), (4,)]


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


async def test_the_depth_of_the_outbox_is_measured(box: Outbox) -> None:
    await box.add(HOOK)
    await box.put(alert(1), alert(2))
    box.clock.advance_ms(7_000)
    await measure(box.connection, box.clock.now_ms(), METRICS)
    assert value_of(METRICS.outbox.labels(state="pending")) == 2
    assert value_of(METRICS.oldest_due) == pytest.approx(7.0)
    assert value_of(METRICS.targets.labels(state="enabled")) == 1


async def test_the_outbox_comes_with_the_migrations(settings: Settings) -> None:
    assert "0005_webhooks" in migrate(settings.postgres())


async def test_what_is_not_there_is_said_so(box: Outbox) -> None:
    for act in (box.targets().get, box.targets().remove, box.log().get):
        with pytest.raises(NoSuchWebhook):
            await act(uuid4())


async def test_housekeeping_goes_on_while_the_database_takes_no_writes(settings: Settings) -> None:
    await asyncio.to_thread(migrate, settings.postgres())
    assert settings.postgres_url is not None
    standby = make_conninfo(
        settings.postgres_url.get_secret_value(), options="-c default_transaction_read_only=on"
    )
    stop = asyncio.Event()
    async with await open_pool(
        settings.model_copy(update={"postgres_url": SecretStr(standby)}).postgres()
    ) as pool:
        with capture_logs() as logged:
            house = asyncio.create_task(keep_house(pool, 14, SystemClock(), stop, lambda _: None, UNREAD))
            await eventually(lambda: logged or house.done())
            stop.set()
            await house
    assert {one["event"] for one in logged} == {"housekeeping_failed"}


async def test_a_message_at_which_the_sender_ended_three_times_is_given_up_and_the_others_go(
    box: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as receiver:
        await box.add(receiver.url)
        await box.put(alert(1), alert(2), alert(3))
        poison = (await box.deliveries())[1].id

        async def load(
            connection: AsyncConnection, ids: Sequence[UUID], now_ms: int, metrics: DatabaseMetrics
        ) -> list[Claimed]:
            if poison in ids:
                raise RuntimeError("what it was")
            return await load_messages(connection, ids, now_ms, metrics)

        monkeypatch.setattr(attempt, "load_messages", load)

        async def started() -> int:
            """As the process does after each end."""
            attempts = Attempts(tmp_path, "webhooks-outbox", pipeline_metrics(UNREAD))
            attempts.open()
            try:
                return await box.sender(attempts=attempts).deliver_due()
            finally:
                attempts.close()

        for _ in range(3):
            with pytest.raises(RuntimeError, match="what it was"):
                await started()
        assert await started() == 2
    assert sorted(receiver.seqs) == [1, 3]
    assert [one.status for one in await box.deliveries()] == ["delivered", "dead", "delivered"]
