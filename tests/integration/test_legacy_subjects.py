"""`alerts.triggered` and `metrics.calculated` as a NATS subscriber gets them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import nats
import orjson
import pytest
from nats.aio.client import Client as NatsClient
from nats.js.api import DiscardPolicy, RetentionPolicy

import app.sidecar.legacy.subjects
from app.rules.alert import Alert
from app.settings import Settings
from app.sidecar.legacy.shapes import alert_json
from app.sidecar.run import Sidecar
from app.wire.nats.stream import stream_name
from tests.support.alerts import make_alert, publish
from tests.support.eventually import eventually
from tests.support.metric_batches import publish_metrics
from tests.support.sidecar import prepare, running_sidecar

START_MS = 1_709_164_800_000


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await prepare(settings)
    return settings.model_copy(update={"legacy_nats": True})


@pytest.fixture
async def client(ready: Settings) -> AsyncIterator[NatsClient]:
    connected = await nats.connect(ready.server_urls().nats)
    yield connected
    await connected.close()


async def joined(sidecar: Sidecar) -> None:
    await eventually(lambda: all(one.joined for one in sidecar.publishers), within_s=60)


async def messages(client: NatsClient, ready: Settings, subject: str, number: int) -> list[dict[str, Any]]:
    """The first messages of a subject, which must be `number`, read as a subscriber without a durable name does."""
    subscription = await client.jetstream().subscribe(ready.name(subject), ordered_consumer=True)
    found = [orjson.loads((await subscription.next_msg(20)).data) for _ in range(number)]
    await subscription.unsubscribe()
    stream = await client.jetstream().stream_info(stream_name(ready.names(), subject.partition(".")[0]))
    assert stream.state.messages == number
    return found


async def test_a_subscriber_gets_new_alerts_and_the_metrics_of_closed_minutes(ready, client):
    async with running_sidecar(ready) as running:
        await joined(running.sidecar)
        backfilled = make_alert(2) | {"backfilled": True}
        await publish(ready, [make_alert(1), backfilled, b"no alert", make_alert(3)])
        values = {"close_1m": 60_000.0, "price_change_1h": 3.0}
        await publish_metrics(ready, [("BTCUSDT", START_MS, values), ("ETHUSDT", START_MS, {})])
        alerts = await messages(client, ready, "alerts.triggered", 2)
        metrics = await messages(client, ready, "metrics.calculated", 2)
    assert [alert["id"] for alert in alerts] == [make_alert(1)["id"], make_alert(3)["id"]]
    assert {one["symbol"] for one in metrics} == {"BTCUSDT", "ETHUSDT"}
    [bitcoin] = (one for one in metrics if one["symbol"] == "BTCUSDT")
    assert (bitcoin["last_price"], bitcoin["price_change_1h"]) == (60_000.0, 3.0)
    for plain in ("alerts", "metrics"):
        config = (await client.jetstream().stream_info(stream_name(ready.names(), plain))).config
        assert (config.retention, config.discard) == (RetentionPolicy.LIMITS, DiscardPolicy.OLD)
        assert (config.max_age, config.max_bytes) == (3_600, 128 * 1024 * 1024)


async def test_an_alert_at_which_the_sidecar_fails_costs_that_alert(ready, client, monkeypatch):
    def failing(alert: Alert) -> bytes:
        if alert.id == make_alert(2)["id"]:
            raise ZeroDivisionError("at this alert")
        return alert_json(alert)

    monkeypatch.setattr(app.sidecar.legacy.subjects, "alert_json", failing)
    async with running_sidecar(ready) as running:
        await joined(running.sidecar)
        await publish(ready, [make_alert(number) for number in (1, 2, 3)])
        alerts = await messages(client, ready, "alerts.triggered", 2)
        assert [alert["id"] for alert in alerts] == [make_alert(1)["id"], make_alert(3)["id"]]
        async with running.session.get("/metrics") as answer:
            assert (
                'screener_dead_letters_total{reason="failed",stage="legacy-alerts"} 1.0'
                in await answer.text()
            )


async def test_alerts_from_while_no_sidecar_ran_follow_and_none_comes_twice(ready, client):
    async with running_sidecar(ready) as running:
        await joined(running.sidecar)
        await publish(ready, [make_alert(1)])
        await messages(client, ready, "alerts.triggered", 1)
    # the second alert of this id is one that a worker sent again
    await publish(ready, [make_alert(2), make_alert(1)])
    async with running_sidecar(ready) as running:
        await publish(ready, [make_alert(3)])
        await joined(running.sidecar)
        found = await messages(client, ready, "alerts.triggered", 3)
    assert [alert["id"] for alert in found] == [make_alert(number)["id"] for number in (1, 2, 3)]


async def test_without_nats_the_sidecar_serves_and_the_fault_is_counted(ready):
    away = Settings.model_validate({**ready.model_dump(), "nats_url": "nats://127.0.0.1:1"})
    async with running_sidecar(away) as running:
        registry = running.sidecar.parts.registry
        failures = "api_gateway_subject_failures_total"

        def counted() -> bool:
            subjects = ("alerts.triggered", "metrics.calculated")
            return all(registry.get_sample_value(failures, {"subject": one}) for one in subjects)

        await eventually(counted)
        async with running.alerts() as socket:
            await publish(away, [make_alert(1)])
            message = await socket.receive(20)
        assert orjson.loads(message.data)["id"] == make_alert(1)["id"]
