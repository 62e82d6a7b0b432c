"""`screener up`, as a person runs it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import nats
import pytest

from app.clock import SystemClock
from app.local.servers.ports import free_port
from app.process.children.child import wait_ended
from app.process.exit_status import EXIT_CONFIG, EXIT_TEMPORARY
from tests.support.eventually import eventually
from tests.support.running_up import START_S, Up, running

pytestmark = pytest.mark.timeout(1_800)


async def test_it_serves_metrics_of_simulated_symbols_and_leaves_no_process_on_ctrl_c(tmp_path: Path) -> None:
    # a line of figures is for a terminal alone
    with running(tmp_path, FORCE_COLOR="1") as up:
        await up.is_up()
        async with aiohttp.ClientSession() as session:

            async def whole_windows() -> object:
                async with session.get(f"{up.url}/api/metrics/BTCUSDT") as answer:
                    if answer.status != 200:
                        return None
                    found = await answer.json()
                return found["timeframes"]["1d"]["price_change"]

            change = await eventually(whole_windows, START_S, of_work=True)
            assert isinstance(change, float)
            async with session.get(f"{up.url}/api/health") as answer:
                health = await answer.json()
            assert answer.status == 200
            assert {name: state["state"] for name, state in health["dependencies"].items()} == {
                "kafka": "up", "nats": "up", "postgres": "up", "redis": "up",
            }  # fmt: skip
            async with session.ws_connect(f"{up.url}/ws/alerts") as socket_:
                assert not socket_.closed
        await eventually(
            lambda: re.search(r"[1-9][\d,]* candles/s \| [1-9][\d,]* rows/s", up.text()),
            START_S,
            of_work=True,
        )
        family = up.descendants()
        assert len(family) >= 9
        up.process.send_signal(signal.SIGINT)
        assert await up.ended() == 0
        assert wait_ended(family, 10) == []
        assert "stopped" in up.text()


async def alerts_of(up: Up) -> list[dict[str, Any]]:
    """The latest stored; none while the sidecar is away."""
    with suppress(aiohttp.ClientError, TimeoutError):
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{up.url}/api/alerts?limit=100") as answer,
        ):
            if answer.status == 200:
                return list((await answer.json())["alerts"])
    return []


async def frames_pass(up: Up) -> int:
    """When the calculator last sent, as the sidecar sees it (UTC ms); 0 while it sees nothing."""
    with suppress(aiohttp.ClientError, TimeoutError):
        async with aiohttp.ClientSession() as session, session.get(f"{up.url}/api/health") as answer:
            sent = (await answer.json())["stages"]["calculator"]["last_sent"]
            return int(datetime.fromisoformat(sent).timestamp() * 1000) if sent else 0
    return 0


@pytest.fixture(scope="module")
def running_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One screener, for clients of the earlier system too. The tests that kill a part of it wait until candles go
    on."""
    earlier = {"SCREENER_LEGACY_PORT": str(free_port()), "SCREENER_LEGACY_NATS": "true"}
    with running(tmp_path_factory.mktemp("up"), **earlier) as up:
        yield up


async def test_clients_of_the_earlier_system_are_served_beside_the_others(running_up: Up) -> None:
    await running_up.is_up()
    url = f"http://127.0.0.1:{running_up.environ['SCREENER_LEGACY_PORT']}"
    assert f"earlier    {url}/api/alerts" in running_up.text()
    async with aiohttp.ClientSession(url) as session:

        async def answer(path: str) -> Any:
            async with session.get(path) as found:
                return found.status, await found.json()

        async def metrics() -> bool:
            _, found = await answer("/api/metrics/")
            return "BTCUSDT" in [one["symbol"] for one in found]

        async def minutes() -> bool:
            status, found = await answer("/api/klines?symbol=BTCUSDT&interval=1m&limit=5")
            return status == 200 and [len(minute) for minute in found] == [12] * 5

        async def ticker() -> Any:
            _, found = await answer("/api/tickers?symbols=BTCUSDT,NOSUCHUSDT")
            return found[0] if found else None

        assert await eventually(metrics, START_S, of_work=True)
        assert await eventually(minutes, START_S, of_work=True)
        day = await eventually(ticker, START_S, of_work=True)
        assert day["symbol"] == "BTCUSDT"
        assert float(day["lastPrice"]) > 0
        status, health = await answer("/health")
        assert (status, set(health)) == (200, {"status", "db", "nats", "version"})
        status, alerts = await answer("/api/alerts?limit=3")
        assert (status, type(alerts)) == (200, list)
        async with session.ws_connect("/ws/alerts") as socket_:
            assert not socket_.closed
    client = await nats.connect(await asyncio.to_thread(running_up.server_url, "nats"))
    try:
        calculated = await client.jetstream().subscribe("metrics.calculated", ordered_consumer=True)
        metrics = json.loads((await calculated.next_msg(60 + START_S)).data)
        assert metrics["symbol"].endswith("USDT")
        assert metrics["last_price"] > 0
    finally:
        await client.close()


async def kill(up: Up, program: str) -> int:
    """End the process of `program` by SIGKILL and wait for its successor; return when it was killed, UTC ms."""
    first = up.find(program)
    assert first is not None
    first.send_signal(signal.SIGKILL)
    killed_ms = SystemClock().now_ms()

    def another() -> bool:
        found = up.find(program)
        return found is not None and found.pid != first.pid

    await eventually(another, START_S, of_work=True)
    return killed_ms


async def candles_pass(up: Up, after_ms: int) -> None:
    async def sent() -> bool:
        return await frames_pass(up) > after_ms

    await eventually(sent, START_S, of_work=True)
    assert up.process.poll() is None, up.text()


@pytest.mark.parametrize(
    "program",
    ["nats-server", "valkey-server", "postgres/data", "app.local.broker", "app.main:all"],
    ids=["NATS", "Redis", "PostgreSQL", "Kafka", "worker"],
)
async def test_a_killed_process_is_started_again_and_candles_go_on(running_up: Up, program: str) -> None:
    await running_up.is_up()
    await candles_pass(running_up, 0)
    before = {alert["seq"] for alert in await alerts_of(running_up)}
    killed_ms = await kill(running_up, program)
    await candles_pass(running_up, killed_ms + 5_000)
    after = {alert["seq"] for alert in await alerts_of(running_up)}
    # later alerts may have moved the oldest off the page
    assert {seq for seq in before if seq >= min(after, default=0)} <= after


async def test_live_says_that_the_exchange_cannot_be_reached_before_anything_runs(tmp_path: Path) -> None:
    urls = {
        "SCREENER_EXCHANGE_REST_URL": "http://127.0.0.1:1",
        "SCREENER_EXCHANGE_WS_URL": "ws://127.0.0.1:1",
    }
    with running(tmp_path, "--live", **urls) as up:
        assert await up.ended() == EXIT_TEMPORARY
        assert "the exchange binance at http://127.0.0.1:1/fapi/v1/time does not answer" in up.text()
        assert "SCREENER_EXCHANGE_REST_URL" in up.text()
        assert "Traceback" not in up.text()
        assert up.descendants() == []
        assert not (tmp_path / "data").exists()


async def test_a_taken_port_is_reported_with_the_setting_to_change(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with running(tmp_path, SCREENER_SIDECAR_PORT=str(other.getsockname()[1])) as up:
            assert await up.ended() == 78
            assert "SCREENER_SIDECAR_PORT" in up.text()
            assert "Traceback" not in up.text()


@pytest.mark.parametrize(
    ("setting", "value", "status"),
    [
        ("SCREENER_KAFKA_URL", "127.0.0.1:1", EXIT_TEMPORARY),
        ("SCREENER_NATS_URL", "nats://127.0.0.1:1", EXIT_TEMPORARY),
        ("SCREENER_PARTITIONS", "many", EXIT_CONFIG),
        ("SCREENER_NO_SUCH_SETTING", "1", EXIT_CONFIG),
    ],
)
async def test_a_wrong_setting_is_named_before_anything_runs(
    tmp_path: Path, setting: str, value: str, status: int
) -> None:
    with running(tmp_path, **{setting: value}) as up:
        assert await up.ended() == status
        assert setting in up.text()
        assert "Traceback" not in up.text()
