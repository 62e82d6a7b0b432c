"""Alerts about a time long past are stored and marked, and reach only who asks for them, on every channel; those of
shadow rules reach nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from app.clock import SystemClock
from app.settings import Settings
from app.sidecar.state.limits import SidecarLimits
from app.wire.frames import FrameInfo, encode_metrics
from tests.integration.test_switched_off_rules import Worker
from tests.support.alerts import make_alert, publish, store
from tests.support.eventually import eventually
from tests.support.metric_rows import MINUTE_MS, START_MS, Row, metrics_batch
from tests.support.rule_watches import rule_watch
from tests.support.sidecar import prepare, read_alerts, running_sidecar

OLD = (1, 2, 5)
ALERTS = [make_alert(number) | {"backfilled": number in OLD} for number in range(8)]
NEW = [alert for alert in ALERTS if not alert["backfilled"]]
SMALL_MEMORY = SidecarLimits(remembered_alerts=3, repeat_distance=1, catch_up_alerts=2, settle_s=5.0)


@pytest.fixture(autouse=True)
async def _prepared(settings: Settings) -> None:
    await prepare(settings)


def ids(alerts: list[dict]) -> list[str]:
    return [alert["id"] for alert in alerts]


def through(alert: dict):
    return lambda found: bool(found) and found[-1]["id"] == alert["id"]


@pytest.mark.parametrize(("after_ms", "marked"), [(120_000, [True, True, False]), (0, [False] * 3)])
async def test_the_age_at_which_an_alert_is_published_marks_it_and_changes_nothing_else(
    settings: Settings, tmp_path: Path, after_ms: int, marked: list[bool]
):
    rules = rule_watch(settings.model_copy(update={"data_dir": tmp_path}))
    await rules.begin()
    worker = Worker(settings, rules, after_ms)
    now = (SystemClock().now_ms() - START_MS) // MINUTE_MS
    # futures_pioneer_bull, in three minutes, of which the last has just ended
    values = {
        "close_1m": 1.0,
        "price_change_5m": 2.0,
        "price_change_15m": 3.0,
        "quote_volume_5m": 9.0,
        "quote_volume_15m": 9.0,
    }
    batch = metrics_batch([Row("AUSDT", minute, values) for minute in (now - 2_000, now - 10, now - 1)])
    await worker.stage.handle(0, encode_metrics(batch, FrameInfo()))
    found = [orjson.loads(alert) for _, alert in worker.published]
    assert {alert["rule_type"] for alert in found} == {"futures_pioneer_bull"}
    assert [alert["backfilled"] for alert in found] == marked
    await worker.redis.aclose()


async def test_a_minute_that_ended_within_two_minutes_is_news_however_its_candle_came(
    settings: Settings, tmp_path: Path
) -> None:
    """A restart or an outage of a minute is filled as history is, and its alerts have reached nobody yet: to mark
    them would lose them on every channel, which promises at least once. What is older calls nobody."""
    rules = rule_watch(settings.model_copy(update={"data_dir": tmp_path}))
    await rules.begin()
    worker = Worker(settings, rules, 120_000)
    now_ms = SystemClock().now_ms()
    values = {
        "close_1m": 1.0,
        "price_change_5m": 2.0,
        "price_change_15m": 3.0,
        "quote_volume_5m": 9.0,
        "quote_volume_15m": 9.0,
    }
    # one request of a new symbol's history, first seen now
    filled = metrics_batch(
        [Row("AUSDT", (now_ms - START_MS) // MINUTE_MS - ago, values) for ago in (60, 10, 1)]
    )
    filled = replace(filled, ingest_ts_ms=np.full(len(filled), now_ms))
    await worker.stage.handle(0, encode_metrics(filled, FrameInfo()))
    alerts = [orjson.loads(alert) for _, alert in worker.published]
    assert [alert["backfilled"] for alert in alerts] == [True, True, False]
    await worker.redis.aclose()


async def test_clients_of_both_sockets_get_them_only_when_they_ask(settings):
    async with (
        running_sidecar(settings) as client,
        client.channels() as plain,
        client.channels() as asking,
        client.alerts() as stream,
        client.session.ws_connect("/ws/alerts?backfilled=true") as asking_stream,
    ):
        await plain.subscribe("alerts")
        assert (await asking.subscribe("alerts", backfilled=True))["data"] == {"backfilled": True}
        await eventually(lambda: client.receivers == 4)
        await publish(settings, ALERTS)
        assert ids(await plain.hear_alerts(through(ALERTS[-1]))) == ids(NEW)
        assert ids(await asking.hear_alerts(through(ALERTS[-1]))) == ids(ALERTS)
        assert ids(await read_alerts(stream, through(ALERTS[-1]))) == ids(NEW)
        assert ids(await read_alerts(asking_stream, through(ALERTS[-1]))) == ids(ALERTS)


async def test_a_resumption_passes_over_them_in_memory_and_in_the_database(settings):
    seqs = await publish(settings, ALERTS)
    await store(settings, seqs, ALERTS)
    async with running_sidecar(settings, limits=SMALL_MEMORY) as client:
        for resumed in range(len(ALERTS) - 1):
            since = seqs[resumed]
            expected = ids([alert for alert in ALERTS[resumed + 1 :] if not alert["backfilled"]])
            async with client.alerts(since=since) as stream:
                assert ids(await read_alerts(stream, through(ALERTS[-1]))) == expected
            async with client.channels() as socket:
                await socket.subscribe("alerts", since=since, since_id=ALERTS[resumed]["id"])
                assert ids(await socket.hear_alerts(through(ALERTS[-1]))) == expected
            async with client.session.ws_connect(f"/ws/alerts?since={since}&backfilled=true") as stream:
                assert ids(await read_alerts(stream, through(ALERTS[-1]))) == ids(ALERTS[resumed + 1 :])


async def test_the_history_has_them_and_can_be_asked_for_one_kind(settings):
    await store(settings, range(len(ALERTS)), ALERTS)
    async with running_sidecar(settings) as client:
        for query, wanted in (
            ({}, ALERTS),
            ({"backfilled": "false"}, NEW),
            ({"backfilled": "true"}, [ALERTS[n] for n in OLD]),
        ):
            _, page = await client.get("/api/alerts", **query)
            assert ids(page["alerts"]) == ids(wanted)[::-1]
            assert all(
                alert["backfilled"] == (alert["id"] in ids([ALERTS[n] for n in OLD]))
                for alert in page["alerts"]
            )
        assert (await client.get("/api/alerts", backfilled="yes"))[0] == 400


async def test_the_alerts_of_a_shadow_rule_are_in_the_history_for_who_asks_and_on_no_socket(settings):
    alerts = [make_alert(number) | ({"shadow": True} if number in OLD else {}) for number in range(8)]
    told, untold = (
        [alert for alert in alerts if alert.get("shadow", False) is shadow] for shadow in (False, True)
    )
    async with (
        running_sidecar(settings) as client,
        client.channels() as channels,
        client.session.ws_connect("/ws/alerts?backfilled=true") as stream,
    ):
        await channels.subscribe("alerts", backfilled=True)
        await eventually(lambda: client.receivers == 2)
        seqs = await publish(settings, alerts)
        assert ids(await channels.hear_alerts(through(alerts[-1]))) == ids(told)
        assert ids(await read_alerts(stream, through(alerts[-1]))) == ids(told)
        await store(settings, seqs, alerts)
        async with client.alerts(since=seqs[0]) as resumed:
            assert ids(await read_alerts(resumed, through(alerts[-1]))) == ids(told[1:])
        for query, wanted in (({}, told), ({"shadow": "false"}, told), ({"shadow": "true"}, untold)):
            _, page = await client.get("/api/alerts", **query)
            assert ids(page["alerts"]) == ids(wanted)[::-1]
        _, exported = await client.get("/api/alert-export", format="json", shadow="true")
        assert [alert["shadow"] for alert in exported] == [True] * len(untold)
