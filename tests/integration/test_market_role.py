"""The role market as a process or in this one: no record and no rule holds up the minutes of the whole market."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

import app.rules.language.functions
from app.clock import SystemClock
from app.market_wide.kept import read_kept
from app.market_wide.run import run_market
from app.process.children.child import ChildProcess
from app.process.children.supervisor import role_environ
from app.rules.alert import Alert
from app.settings import Settings
from app.telemetry.catalogue import RoleRegistry
from app.wire.kafka import client_options
from app.wire.topics import Topics
from tests.integration.test_quarantine import ends_three_times_and_is_started_again
from tests.support.eventually import eventually
from tests.support.metric_batches import publish_metrics
from tests.support.sidecar import prepare, running_sidecar
from tests.support.tokens import SECRET, bearer
from tests.support.topic_reader import dead_letters, read_until

ADMIN = bearer("root", admin=True)


@pytest.fixture
async def here(settings: Settings, tmp_path: Path) -> Settings:
    """No collector sends the role's questions back, so it must not wait for them."""
    changed = {
        "partitions": 1,
        "data_dir": tmp_path,
        "market_wait_s": 1.0,
        "jwt_secret": SECRET,
    }
    here = Settings.model_validate({**settings.model_dump(), **changed})
    await prepare(here)
    return here


@pytest.fixture
def market(here: Settings, tmp_path: Path) -> Iterator[ChildProcess]:
    argv = [sys.executable, "-m", "tests.support.poisoned_role", "market"]
    process = ChildProcess("market", argv, tmp_path / "market.log", env=role_environ(here))
    yield process
    process.stop()


def this_minute_ms() -> int:
    return SystemClock().now_ms() // 60_000 * 60_000


async def last_sealed(settings: Settings) -> tuple[int, set[str]] | None:
    """The last sealed minute and its symbols."""
    kept = await read_kept(client_options(settings.kafka()), Topics.of(settings.names()).market)
    return None if kept.last is None else (int(kept.last.open_time_ms[0]), set(kept.last.symbols))


@pytest.mark.parametrize("poison", ["KILLUSDT", "RAISEUSDT"])
async def test_a_record_at_which_the_role_ended_three_times_costs_that_record(
    here: Settings, market: ChildProcess, poison: str
):
    first_ms = this_minute_ms() - 5 * 60_000
    rows = [("AUSDT", first_ms), (poison, first_ms), ("BUSDT", first_ms), ("AUSDT", first_ms + 60_000)]
    await publish_metrics(here, [(symbol, at_ms, {"close_1m": 1.0}) for symbol, at_ms in rows])
    await ends_three_times_and_is_started_again(market)

    async def is_sealed() -> bool:
        return await last_sealed(here) == (first_ms, {"AUSDT", "BUSDT"})

    await eventually(is_sealed, 60.0)
    assert market.running
    [letter] = await dead_letters(here, 1)
    assert (letter["stage"], letter["reason"]) == ("market", "quarantined")
    assert letter["source"] == f"{Topics.of(here.names()).metrics}/0/1"


@asynccontextmanager
async def running_market(settings: Settings) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_market(settings, SystemClock(), RoleRegistry("market"), stop))
    try:
        yield
        assert not task.done()
    finally:
        stop.set()
        await task


async def test_a_rule_of_the_whole_market_that_raises_is_switched_off_alone_and_shown(
    here: Settings, monkeypatch: pytest.MonkeyPatch
):
    def broken(*values: object) -> None:
        raise ZeroDivisionError("abs is broken")

    monkeypatch.setitem(app.rules.language.functions.KERNELS, "abs", broken)
    first_ms = this_minute_ms() - 3 * 60_000
    rules = {"breaking": "abs(rank(close_1m)) == 1", "good": "rank(close_1m) == 1"}
    async with running_sidecar(here) as client:
        for name, expression in rules.items():
            body = {"rule_type": name, "expression": expression, "severity": "high"}
            assert (await client.send("POST", "/api/rules", body, ADMIN))[0] == 201
        async with running_market(here):
            minutes = [
                (symbol, first_ms + minute * 60_000, {"close_1m": price})
                for minute in range(2)
                for symbol, price in (("AUSDT", 1.0), ("BUSDT", 2.0))
            ]
            await publish_metrics(here, minutes)

            def enough(records: list[ConsumerRecord]) -> bool:
                return any(record.key for record in records)

            alerts = await read_until(here, Topics.of(here.names()).alerts, enough)
            fired = [Alert.decode(record.value, record.offset) for record in alerts if record.key]
            assert [(alert.rule_type, alert.symbol) for alert in fired] == [("good", "BUSDT")]

            async def shown() -> str:
                return str((await client.get("/api/rules/breaking"))[1]["state"])

            async def is_off() -> bool:
                return await shown() == "switched_off"

            await eventually(is_off)
            [fault] = (await client.get("/api/rules/breaking"))[1]["faults"]
            assert fault["process"].startswith("market ")
            assert fault["reason"] == "ZeroDivisionError: abs is broken"
            assert (await client.get("/api/rules/good"))[1]["state"] == "active"
