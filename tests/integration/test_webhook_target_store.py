"""The targets in the database: of users, of administrators, and of the settings."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from app.errors import BadWebhookTarget, NoSuchWebhook, SettingsError
from app.webhooks.delivery.outbox import Room
from app.webhooks.delivery.post import Answer
from app.webhooks.targets.settings_targets import put_settings_target
from app.webhooks.targets.urls import AllowedHosts
from tests.support.webhooks import LEASE_MS, Outbox, alert, seqs

HOOK = "https://example.com/hook"


async def test_the_settings_of_a_user_are_a_target_that_follows_them(box: Outbox) -> None:
    target_id = await box.user("a", HOOK, "*")
    assert target_id is not None
    store = box.targets("a")
    secret = await store.secret(target_id)
    await box.put(alert(1))
    assert len(await box.claim()) == 1

    await box.user("a", HOOK, "*", on=False)
    assert (await store.get(target_id)).disabled_reason == "off"
    box.clock.advance_ms(LEASE_MS)
    assert await box.put(alert(2)) == 0
    assert await box.claim() == []

    await box.user("a", HOOK, "*")
    assert await store.secret(target_id) == secret
    assert seqs(await box.claim()) == [[1]]

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
    await box.settle(await box.claim(), Answer("gone", 410, None, 1))
    await box.user("a", HOOK, "*", "futures_pioneer_bull")
    assert (await box.targets("a").get(target_id)).disabled_reason == "gone"
    await box.user("a", HOOK + "2", "*")
    assert (await box.targets("a").get(target_id)).enabled


async def test_what_an_old_url_answered_does_not_touch_the_new_one(box: Outbox) -> None:
    target_id = await box.user("a", HOOK, "*")
    assert target_id is not None
    await box.put(alert(1))
    claimed = await box.claim()
    await box.user("a", HOOK + "2", "*")
    await box.settle(claimed, Answer("gone", 410, None, 1))
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
    await box.settle(await box.claim(), Answer("gone", 410, None, 1))
    assert await log.redeliver_dead(theirs) == 0
    assert await log.redeliver_dead() == 1
    assert [one.status for one in await box.log("b").newest(10)] == ["dead"]


async def test_a_rotated_secret_signs_beside_the_new_one_until_the_overlap_is_over(box: Outbox) -> None:
    target = await box.add(HOOK)
    old = await box.targets().secret(target.id)
    new = await box.targets().rotate_secret(target.id, overlap_hours=2)
    await box.put(alert(1), alert(2))
    [first] = await box.claim(Room(1, 1, {}))
    assert first.secrets == (new, old)
    box.clock.advance_ms(2 * 3_600_000)
    [_, second] = await box.claim()
    assert second.secrets == (new,)


async def test_targets_never_show_more_of_a_url_than_its_host(box: Outbox) -> None:
    target = await box.add("https://user-hooks.example.com/hush?token=hush")
    assert target.url == "https://user-hooks.example.com/…"
    assert "hush" not in repr([target, *await box.claim()])


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


async def test_what_is_not_there_is_said_so(box: Outbox) -> None:
    for act in (box.targets().get, box.targets().remove, box.log().get):
        with pytest.raises(NoSuchWebhook):
            await act(uuid4())
