"""`screener webhooks`, as operators use it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from standardwebhooks import Webhook

from app.cli.main import screener
from app.errors import BadWebhookTarget, NoSuchWebhook, ScreenerError
from app.process.children.supervisor import role_environ
from tests.support.webhooks import Outbox, alert, receiving


class Command:
    """Runs in a thread, as the receiver lives in the test's loop."""

    def __init__(self, box: Outbox, columns: int = 250) -> None:
        self._environ = role_environ(box.settings) | {"COLUMNS": str(columns)}

    async def __call__(self, *arguments: str, given: str = "") -> str:
        result = await self.result(*arguments, given=given)
        if result.exception:
            raise result.exception
        return result.output

    async def result(self, *arguments: str, given: str = "") -> Result:
        def run() -> Result:
            return CliRunner(env=self._environ).invoke(screener, ["webhooks", *arguments], input=given)

        return await asyncio.to_thread(run)


async def test_a_target_is_added_tried_rotated_and_switched(box: Outbox) -> None:
    run = Command(box)
    async with receiving() as receiver:
        url = receiver.url + "?token=hush"
        added = await run(
            "targets", "add", "--url-file", "-", "--name", "team", "--rule", "futures_pioneer_bull", "--digest", "60",
            given=url + "\n",
        )  # fmt: skip
        target, secret = added.split()[0], added.split("secret: ")[1].strip()
        listed = await run("targets", "list")
        for word in (target, "team", "futures_pioneer_bull", "60 s", "on"):
            assert word in listed
        assert "hush" not in added + listed
        assert (await run("targets", "secret", target)).strip() == secret

        assert (await run("test", target)).startswith("delivered (200)")
        newer = (await run("targets", "rotate", target)).strip()
        await run("test", target)
        for received, valid in zip(receiver.received, ([secret], [newer, secret]), strict=True):
            for one in valid:
                assert Webhook(one).verify(received.body, received.headers)["type"] == "webhook.test"

        await run("targets", "disable", target)
        assert "off: off" in await run("targets", "list")
        await run("targets", "enable", target)
        await run("targets", "digest", target, "0")
        await run("targets", "remove", "--yes", target)
        assert target not in await run("targets", "list")


async def test_ids_are_whole_in_any_width_and_their_beginnings_are_taken(box: Outbox) -> None:
    run = Command(box, columns=40)
    async with receiving() as receiver:
        first, second = [await box.add(receiver.url) for _ in range(2)]
        listed = await run("targets", "list")
        assert str(first.id) in listed
        assert str(second.id) in listed
        known = json.loads(await run("targets", "list", "--json"))["targets"]
        assert {target["id"] for target in known} == {str(first.id), str(second.id)}
        short = str(first.id)[:13]
        await run("targets", "digest", short, "60")
        assert (await box.targets().get(first.id)).digest_s == 60
        await box.put(alert(7))
        [delivery] = [one.id for one in await box.deliveries() if one.target_id == first.id]
        listed = await run("list", "--target", short)
        assert str(delivery) in listed
        assert str(first.id) in listed
        shown = json.loads(await run("show", str(delivery)[:13], "--json"))
        assert shown["delivery"]["id"] == str(delivery)
        newest = json.loads(await run("list", "--json"))["deliveries"]
        assert str(delivery) in {one["id"] for one in newest}


async def test_a_beginning_that_is_of_several_ids_or_of_none_is_refused_with_the_candidates(
    box: Outbox,
) -> None:
    run = Command(box)
    async with receiving() as receiver:
        made = [await box.add(receiver.url) for _ in range(2)]
        for target, digit in zip(made, "12", strict=True):
            await box.connection.execute(
                "UPDATE webhook_targets SET id = %s WHERE id = %s", (f"abcdef0{digit}" + "0" * 24, target.id)
            )
        with pytest.raises(
            NoSuchWebhook, match=r"more than one webhook target: abcdef01-.*abcdef02-.*give more"
        ):
            await run("targets", "secret", "abcdef")
        with pytest.raises(NoSuchWebhook, match="no webhook target abcd9"):
            await run("targets", "secret", "abcd9")
        assert (await run("targets", "secret", "ABCDEF02-0")).strip()
        refused = await run.result("show", "xyz!")
        assert (refused.exit_code, "is not an id or" in refused.output) == (2, True)


async def test_a_severity_that_no_alert_can_have_is_refused(box: Outbox) -> None:
    refused = await Command(box).result("targets", "add", "--severity", "loud")
    assert (refused.exit_code, "critical" in refused.output) == (2, True)
    assert await box.targets().all() == []


async def test_the_url_is_asked_for_and_not_shown_when_no_file_is_given(box: Outbox) -> None:
    added = await Command(box)("targets", "add", given="https://hooks.slack.com/services/hush\n")
    assert "hush" not in added
    assert "slack" in added
    assert "secret" not in added


async def test_deliveries_are_listed_shown_and_sent_again(box: Outbox) -> None:
    run = Command(box)
    async with receiving() as receiver:
        receiver.says(410)
        target = await box.add(receiver.url)
        await box.put(alert(7))
        sender = box.sender()
        await sender.deliver_due()
        listed = await run("list", "--status", "dead", "--target", str(target.id))
        assert "BTCUSDT" in listed
        assert "410 gone" in listed
        delivery = str((await box.deliveries())[0].id)
        assert delivery in listed
        shown = await run("show", delivery)
        assert "attempt 1: gone (410)" in shown
        assert "seq 7" in shown

        receiver.says(200)
        await run("targets", "enable", str(target.id))
        assert (await run("redeliver", "--dead")).startswith("1 ")
        box.clock.advance_ms(10 * 365 * 86_400_000)
        await sender.deliver_due()
        assert "delivered" in await run("list")
        assert (await run("redeliver", delivery)).startswith("1 ")


@pytest.mark.parametrize("arguments", [(), ("--target", "x"), ("--dead", "id")])
async def test_redelivery_must_be_told_what(box: Outbox, arguments: tuple[str, ...]) -> None:
    some = "00000000-0000-0000-0000-000000000000"
    given = [some if one in ("x", "id") else one for one in arguments]
    assert (await Command(box).result("redeliver", *given)).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "given", "error"),
    [
        (("targets", "add", "--url-file", "-"), "http://example.com/hush", BadWebhookTarget),
        (("targets", "secret", "ID"), "", NoSuchWebhook),
        (("show", "ID"), "", NoSuchWebhook),
        (("redeliver", "ID"), "", NoSuchWebhook),
        (("test", "ID"), "", NoSuchWebhook),
    ],
)
async def test_what_cannot_be_done_is_said_without_secrets(
    box: Outbox, arguments: tuple[str, ...], given: str, error: type[Any]
) -> None:
    some = "00000000-0000-0000-0000-000000000000"
    result = await Command(box).result(*(some if one == "ID" else one for one in arguments), given=given)
    assert isinstance(result.exception, error)
    assert "hush" not in str(result.exception) + result.output


async def test_a_target_that_does_not_take_the_test_message_is_an_error(box: Outbox) -> None:
    async with receiving() as receiver:
        receiver.says(403)
        target = await box.add(receiver.url)
        with pytest.raises(ScreenerError, match=r"client_error \(403\)"):
            await Command(box)("test", str(target.id))
