"""The channel of alerts on /ws against real servers: filters, resuming, gaps."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path
from uuid import uuid4

import aiohttp
import orjson
import pytest
from pydantic import SecretStr

from app.local.servers.ports import free_port
from app.process.children.child import ChildProcess
from app.process.children.supervisor import role_argv, role_environ
from app.settings import Settings
from app.sidecar.state.limits import SidecarLimits
from tests.support.alerts import make_alert, publish, store
from tests.support.eventually import eventually
from tests.support.sidecar import FREE_PORTS, prepare, running_sidecar
from tests.support.tokens import SECRET, bearer

SMALL_MEMORY = SidecarLimits(remembered_alerts=20, repeat_distance=10, catch_up_alerts=7, settle_s=1.0)


@pytest.fixture(autouse=True)
async def _prepared(settings: Settings) -> None:
    await prepare(settings)


def ids(alerts: list[dict]) -> list[str]:
    return [alert["id"] for alert in alerts]


def until(alert: dict):
    return lambda found: bool(found) and found[-1]["id"] == alert["id"]


async def test_a_subscriber_is_told_from_where_and_gets_each_new_alert_in_an_envelope(settings):
    (before,) = await publish(settings, [make_alert(0)])
    async with running_sidecar(settings) as client, client.channels() as socket:
        answer = await socket.subscribe("alerts", id="a-1")
        assert answer == {"type": "subscribed", "channel": "alerts", "seq": before, "data": {}, "id": "a-1"}
        (seq,) = await publish(settings, [make_alert(1)])
        message = await socket.hear()
    assert message["data"]["timings"].pop("deliver_ts_ms") > 0
    assert message == {
        "type": "alert",
        "channel": "alerts",
        "seq": seq,
        "data": {**make_alert(1), "seq": seq},
    }


async def test_each_subscriber_gets_the_symbols_rules_and_severities_it_named_and_no_others(settings):
    wanted = (
        {},
        {"symbols": ["BTCUSDT"]},
        {"symbols": ["ETHUSDT", "BTCUSDT"], "rules": ["futures_top_hunter"]},
        {"rules": ["futures_top_hunter", "futures_pioneer_bull"]},
        {"severities": ["medium"], "symbols": ["SOLUSDT"]},
    )
    alerts = [make_alert(n, symbol) for n in range(9) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
    last = make_alert(99, "BTCUSDT", "futures_top_hunter")
    name_of = {"symbols": "symbol", "rules": "rule_type", "severities": "severity"}
    async with running_sidecar(settings) as client:
        for lists in wanted:
            async with client.channels() as everything, client.channels() as chosen:
                await everything.subscribe("alerts")
                answer = await chosen.subscribe("alerts", **lists)
                assert answer["data"] == {name: sorted(items) for name, items in lists.items()}
                await publish(settings, [*alerts, last])
                heard = ids(await everything.hear_alerts(until(last)))
                expected = [
                    alert["id"]
                    for alert in [*alerts, last]
                    if all(alert[name_of[name]] in items for name, items in lists.items())
                ]
                found = await chosen.hear_alerts(until({"id": expected[-1]}))
            assert (ids(found), heard) == (expected, ids([*alerts, last]))
            # ids that were seen are not delivered again: the next round needs its own
            alerts, last = [_renamed(alert) for alert in alerts], _renamed(last)


def _renamed(alert: dict) -> dict:
    return {**alert, "id": str(uuid4())}


async def test_a_user_may_ask_for_what_the_settings_select(settings):
    users = settings.model_copy(update={"jwt_secret": SecretStr(SECRET)})
    selected = {"selected_alerts": ["futures_top_hunter"]}
    subscribed = {"subscriptions": [{"rule_type": "*", "symbol": "ETHUSDT"}]}
    alerts = [make_alert(n, symbol) for n in range(6) for symbol in ("BTCUSDT", "ETHUSDT")]
    chosen = [a for a in alerts if a["rule_type"] == "futures_top_hunter" or a["symbol"] == "ETHUSDT"]
    seqs = await publish(settings, alerts)
    async with running_sidecar(users) as client:
        async with client.session.post(
            "/api/settings", json=selected | subscribed, headers=bearer("ann")
        ) as response:
            assert response.status == 200
        async with client.channels(**bearer("ann")) as ann:
            answer = await ann.subscribe("alerts", mine=True, since=-1)
            assert answer["data"] == {"mine": True}
            assert ids(await ann.hear_alerts(until(chosen[-1]))) == ids(chosen)
            await ann.subscribe("alerts", mine=True, symbols=["BTCUSDT"], since=-1)
            narrowed = [alert for alert in chosen if alert["symbol"] == "BTCUSDT"]
            assert ids(await ann.hear_alerts(until(narrowed[-1]))) == ids(narrowed)
        async with client.channels(**bearer("bob")) as bob:
            await bob.subscribe("alerts", mine=True, since=-1)
            await bob.say("ping")
            await bob.hear_kind("pong")
        async with client.channels() as nobody:
            await nobody.say("subscribe", channel="alerts", mine=True)
            assert (await nobody.hear_kind("error"))["data"]["error"] == "user_required"
            await nobody.subscribe("alerts", since=seqs[-2])
            assert ids(await nobody.hear_alerts(until(alerts[-1]))) == ids(alerts[-1:])


async def test_a_new_subscription_replaces_the_old_and_unsubscribing_ends_it(settings):
    async with running_sidecar(settings) as client, client.channels() as socket:
        await socket.subscribe("alerts", symbols=["BTCUSDT"])
        await socket.subscribe("alerts", symbols=["ETHUSDT"])
        await publish(settings, [make_alert(0, "BTCUSDT"), make_alert(1, "ETHUSDT")])
        (found,) = await socket.hear_alerts(lambda found: len(found) == 1)
        assert found["symbol"] == "ETHUSDT"
        await socket.say("unsubscribe", channel="alerts", id=7)
        assert await socket.hear() == {"type": "unsubscribed", "channel": "alerts", "id": 7}
        assert client.receivers == 0
        await publish(settings, [make_alert(2, "ETHUSDT")])
        await socket.say("ping")
        assert (await socket.hear())["type"] == "pong"


async def test_a_filtered_client_cut_at_random_resumes_to_every_alert_once_over_restarts(settings):
    """It names the last alert it has; database and memory of four sidecars give it the rest."""
    total, rng = 240, random.Random(11)
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    alerts = [make_alert(n, symbols[n % 3], text="x" * 300) for n in range(total)]
    expected = [alert for alert in alerts if alert["symbol"] != "SOLUSDT"]
    received: list[dict] = []

    async def produce() -> None:
        for start in range(0, total, 6):
            chunk = alerts[start : start + 6]
            repeats = [alerts[start - 2]] if start and rng.random() < 0.3 else []
            offsets = await publish(settings, [*chunk, *repeats])
            await store(settings, offsets[: len(chunk)], chunk)

    async def connect_once(client) -> None:
        point = {"since": received[-1]["seq"], "since_id": received[-1]["id"]} if received else {"since": -1}
        async with client.channels() as socket:
            await socket.subscribe("alerts", symbols=["BTCUSDT", "ETHUSDT"], **point)
            for _ in range(rng.randint(0, 10)):
                if len(received) == len(expected):
                    return
                received.extend(await socket.hear_alerts(lambda found: len(found) == 1))
            socket.socket._response.connection.transport.abort()

    producing = asyncio.create_task(produce())
    async with asyncio.timeout(90):
        for goal in (40, 80, 120, len(expected)):
            async with running_sidecar(settings, SMALL_MEMORY) as client:
                while len(received) < goal:
                    await connect_once(client)
        await producing
    assert ids(received) == ids(expected)


async def test_a_resume_point_whose_alerts_are_no_longer_stored_is_answered_with_a_gap(settings):
    alerts = [make_alert(n) for n in range(60)]
    seqs = await publish(settings, alerts)
    await store(settings, seqs[25:], alerts[25:])
    async with running_sidecar(settings, SMALL_MEMORY) as client:
        async with client.channels() as socket:
            answer = await socket.subscribe("alerts", since=seqs[5], since_id=alerts[5]["id"])
            gap = await socket.hear_kind("gap")
            received = await socket.hear_alerts(until(alerts[-1]))
        async with client.channels() as socket:
            await socket.subscribe("alerts", since=seqs[25])
            without_gap = await socket.hear_alerts(until(alerts[-1]))
        async with client.session.ws_connect(f"/ws/alerts?since={seqs[5]}") as plain:
            message = await plain.receive(20)
    assert gap == {
        "type": "gap",
        "channel": "alerts",
        "seq": seqs[25] - 1,
        "data": {"reason": "too_old", "since": seqs[5]},
    }
    assert answer["seq"] == gap["seq"]
    assert ids(received) == ids(alerts[25:])
    assert ids(without_gap) == ids(alerts[26:])
    assert (message.data, "too old" in message.extra) == (1008, True)


async def test_a_resume_point_of_an_earlier_sequence_is_answered_with_a_gap_and_all_there_is(settings):
    alerts = [make_alert(n) for n in range(10)]
    seqs = await publish(settings, alerts)
    limits = SidecarLimits(settle_s=0.2)
    points = (
        {"since": 1_000},
        {"since": seqs[4], "since_id": make_alert(77)["id"]},
    )
    async with running_sidecar(settings, limits) as client:
        for point in points:
            async with client.channels() as socket:
                assert (await socket.subscribe("alerts", **point))["seq"] == -1
                gap = await socket.hear_kind("gap")
                assert (gap["seq"], gap["data"]) == (-1, {"reason": "began_anew", "since": point["since"]})
                assert ids(await socket.hear_alerts(until(alerts[-1]))) == ids(alerts)
        async with client.channels() as socket:
            await socket.subscribe("alerts", since=seqs[4], since_id=alerts[4]["id"])
            assert ids(await socket.hear_alerts(until(alerts[-1]))) == ids(alerts[5:])


async def test_while_the_history_is_incomplete_a_resumption_is_refused_and_can_be_tried_again(settings):
    alerts = [make_alert(n) for n in range(60)]
    seqs = await publish(settings, alerts)
    await store(settings, seqs[:10], alerts[:10])
    async with running_sidecar(settings, SMALL_MEMORY) as client, client.channels() as socket:
        await socket.say("subscribe", channel="alerts", since=seqs[0], id=1)
        error = await socket.hear_kind("error")
        assert (error["channel"], error["id"], error["data"]["error"]) == ("alerts", 1, "not_ready")
        await store(settings, seqs[10:], alerts[10:])
        await socket.subscribe("alerts", since=seqs[0])
        assert ids(await socket.hear_alerts(until(alerts[-1]))) == ids(alerts[1:])


class CutClient:
    """Reads a few alerts, is cut, and resumes at any of the ports."""

    def __init__(self, total: int, seed: int) -> None:
        self.received: list[dict] = []
        self._total = total
        self._rng = random.Random(seed)

    async def read_all(self, ports: tuple[int, ...]) -> None:
        async with aiohttp.ClientSession() as session:
            while len(self.received) < self._total:
                try:
                    url = f"http://127.0.0.1:{self._rng.choice(ports)}/ws"
                    async with session.ws_connect(url) as socket:
                        await self._read_some(socket)
                        connection = socket._response.connection
                        if connection is not None and connection.transport is not None:
                            connection.transport.abort()
                except (aiohttp.ClientError, ConnectionError):
                    await asyncio.sleep(0.05)  # that one is dead at the moment

    async def _read_some(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        last = self.received[-1] if self.received else None
        point = {"since": last["seq"], "since_id": last["id"]} if last else {"since": -1}
        await socket.send_json({"type": "subscribe", "channel": "alerts", **point})
        goal = min(self._total, len(self.received) + self._rng.randint(0, 12))
        while len(self.received) < goal:
            message = await socket.receive(60)
            if message.type is not aiohttp.WSMsgType.TEXT:
                return
            said = orjson.loads(message.data)
            assert said["type"] != "gap"
            if said["type"] == "error":
                return
            if said["type"] == "alert":
                self.received.append(said["data"])


async def test_over_killed_sidecars_a_client_resumes_to_every_alert_once_at_whichever_lives(
    settings, tmp_path
):
    """Two processes, four times one of them dies under its clients; the database is behind all the time."""
    alerts = [make_alert(n, text="x" * 300) for n in range(300)]
    client = CutClient(len(alerts), seed=5)
    ports = (free_port(), free_port())
    processes = [_sidecar_process(settings, port, tmp_path) for port in ports]

    async def kill() -> None:
        for number in range(4):
            goal = (number + 1) * 60
            await eventually(lambda goal=goal: len(client.received) >= goal, within_s=90)
            process = processes[number % 2]
            os.kill(process.pid, signal.SIGKILL)
            await eventually(lambda process=process: not process.running)
            process.start()

    for process in processes:
        process.start()
    try:
        async with asyncio.timeout(150):
            await asyncio.gather(_produce_behind(settings, alerts), kill(), client.read_all(ports))
    finally:
        for process in processes:
            process.stop()
    assert ids(client.received) == ids(alerts)


async def _produce_behind(settings: Settings, alerts: list[dict]) -> None:
    """Ten at a time with some repeats; the database has them when the next ten are published."""
    unstored: list[tuple[int, dict]] = []
    for start in range(0, len(alerts), 10):
        chunk = alerts[start : start + 10]
        offsets = await publish(settings, [*chunk, *chunk[:2]])
        await store(settings, [seq for seq, _ in unstored], [alert for _, alert in unstored])
        unstored = list(zip(offsets, chunk, strict=False))
    await store(settings, [seq for seq, _ in unstored], [alert for _, alert in unstored])


def _sidecar_process(settings: Settings, port: int, directory: Path) -> ChildProcess:
    given = settings.model_copy(update=FREE_PORTS | {"sidecar_port": port})
    log = directory / f"sidecar-{port}.log"
    return ChildProcess("sidecar", role_argv("sidecar"), log, env=role_environ(given))
