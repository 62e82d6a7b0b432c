"""`screener screen` asks a running screener."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE

import pytest
from click.testing import CliRunner

from app.cli.commands.candles import screen_command
from app.settings import Settings
from tests.support.eventually import eventually
from tests.support.metric_batches import publish_metrics, publish_sealed_minute
from tests.support.sidecar import prepare, running_sidecar

MINUTE = 1_700_000_040_000
RISES = {"AUSDT": 1.0, "BUSDT": 3.0, "CUSDT": 2.0}


async def screen(*arguments: str) -> tuple[int | None, str, str]:
    """Exit status, output, and errors of the command in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "screen", *arguments, stdout=PIPE, stderr=PIPE
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_a_running_screener_is_asked_for_its_latest_values(settings: Settings) -> None:
    await prepare(settings)
    rows = [
        (symbol, MINUTE, {"price_change_1h": rise, "close_1m": 10 * rise}) for symbol, rise in RISES.items()
    ]
    async with running_sidecar(settings) as client:
        await publish_metrics(settings, rows)
        await publish_sealed_minute(settings, rows)

        async def evaluated() -> bool:
            _, found = await client.get("/api/screener", where="rank(price) > 0")
            return len(found["symbols"]) == found["evaluated"] == 3

        await eventually(evaluated)
        url = f"http://127.0.0.1:{client.sidecar.port}"
        query = ("price_change_1h > 1.5", "--sort", "rank(price)")
        (_, asked, _), (_, shown, _), (status, _, refused) = await asyncio.gather(
            screen(*query, "--order", "asc", "--url", f"{url}/", "--json"),
            screen(*query, "--limit", "1", "--url", url),
            screen("prev(rank(price)) > 1", "--url", url),
        )
    answer = json.loads(asked)
    assert [found["symbol"] for found in answer["symbols"]] == ["BUSDT", "CUSDT"]
    assert answer["symbols"][0]["values"] == {
        "price_change_1h": 3.0,
        "close_1m": 30.0,
        "rank(close_1m)": 1.0,
    }
    assert "CUSDT" in shown
    assert "BUSDT" not in shown
    assert "2 of 3 symbols" in shown
    assert status == 1
    assert "looks back" in refused


@pytest.mark.parametrize("limit", ["0", "1001", "many"])
def test_a_limit_that_the_screener_would_refuse_is_refused_before_asking(limit: str) -> None:
    assert CliRunner().invoke(screen_command, ["price > 1", "--limit", limit]).exit_code == 2
