"""A fault in one client, record or task of the sidecar stays there."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import WSCloseCode

import app.sidecar.state.feeds
from app.settings import Settings
from app.sidecar.live.receivers import Receiver
from tests.support.alerts import make_alert, publish
from tests.support.sidecar import prepare, read_alerts, read_close, running_sidecar


@pytest.fixture(autouse=True)
async def _prepared(settings: Settings) -> None:
    await prepare(settings)


async def test_a_fault_in_sending_to_one_client_closes_that_client_only(settings, monkeypatch):
    real = Receiver.offer
    victims: list[Receiver] = []

    def offer(self: Receiver, block: Any) -> bool:
        if self in victims:
            raise ZeroDivisionError("what it was")
        return real(self, block)

    monkeypatch.setattr(Receiver, "offer", offer)
    async with running_sidecar(settings) as client, client.alerts() as victim:
        victims += client.sidecar.parts.receivers
        async with client.alerts() as other:
            await publish(settings, [make_alert(1)])
            assert (await read_close(victim))[0] == WSCloseCode.INTERNAL_ERROR
            await publish(settings, [make_alert(2)])
            found = await read_alerts(other, lambda alerts: len(alerts) == 2)
        assert [alert["id"] for alert in found] == [make_alert(1)["id"], make_alert(2)["id"]]


async def test_a_record_at_which_the_sidecar_fails_is_skipped_and_counted(settings, monkeypatch):
    real = app.sidecar.state.feeds.shown

    def shown(value: bytes, offset: int, deliver_ts_ms: int) -> Any:
        if b"alert number 1" in value:
            raise ZeroDivisionError("what it was")
        return real(value, offset, deliver_ts_ms)

    monkeypatch.setattr(app.sidecar.state.feeds, "shown", shown)
    async with running_sidecar(settings) as client, client.alerts() as socket:
        await publish(settings, [make_alert(1), make_alert(2)])
        [found] = await read_alerts(socket, lambda alerts: len(alerts) == 1)
        assert found["id"] == make_alert(2)["id"]
        status, text = await page(client)
    assert status == 200
    assert 'screener_dead_letters_total{reason="failed",stage="sidecar"} 1.0' in text


async def test_a_task_that_fails_begins_again_and_the_sidecar_goes_on(settings, monkeypatch):
    failed: list[bool] = []
    real = app.sidecar.state.feeds.AlertFeed.begin

    def begin(self: Any, partition: int, beginning: Any) -> None:
        if not failed:
            failed.append(True)
            raise ZeroDivisionError("what it was")
        real(self, partition, beginning)

    monkeypatch.setattr(app.sidecar.state.feeds.AlertFeed, "begin", begin)
    async with running_sidecar(settings) as client, client.alerts() as socket:
        await publish(settings, [make_alert(1)])
        [found] = await read_alerts(socket, lambda alerts: len(alerts) == 1)
        assert found["id"] == make_alert(1)["id"]
        _, text = await page(client)
        assert "screener_task_failures_total" in text
    assert failed


async def page(client: Any) -> tuple[int, str]:
    async with client.session.get("/metrics") as response:
        return response.status, await response.text()
