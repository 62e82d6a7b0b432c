"""`screener backfill`: the exchange's own bars in the database, from a simulated exchange."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner, Result
from psycopg import AsyncConnection

from app.cli.commands.candles import backfill
from app.clock import SystemClock
from app.errors import BadInput
from app.settings import Settings
from tests.support.database import migrated, rows_of
from tests.support.sim_exchange import Client, sim_exchange

SYMBOL = "BTCUSDT"
HOUR_MS = 3_600_000
VALUES = {
    "open": 1, "high": 2, "low": 3, "close": 4, "volume": 5, "quote_volume": 7, "trades": 8, "taker_buy_volume": 9,
    "taker_buy_quote_volume": 10,
}  # fmt: skip


async def run(*arguments: str) -> Result:
    result = await asyncio.to_thread(CliRunner().invoke, backfill, arguments)
    if result.exception is not None:
        raise result.exception
    return result


async def stored(connection: AsyncConnection, interval: str) -> list[tuple[float, ...]]:
    rows = await rows_of(connection, f"candles_{interval}", "time")
    return [(row["time"].timestamp() * 1000, *(row[name] for name in VALUES)) for row in rows]


async def theirs(client: Client, interval: str, since_ms: float, until_ms: float) -> list[tuple[float, ...]]:
    found = await client.klines(SYMBOL, interval, startTime=int(since_ms), endTime=int(until_ms), limit=1500)
    return [(row[0], *(float(row[at]) for at in VALUES.values())) for row in found]


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCREENER_POSTGRES_URL", settings.server_urls().postgres)
    monkeypatch.setenv("SCREENER_NAMESPACE", settings.namespace)


@pytest.mark.usefixtures("environment")
async def test_bars_of_the_exchange_are_stored_once_and_holes_are_filled(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the exchange's clock stands an hour ahead: it has all that the command asks for
    now_ms = SystemClock().now_ms() + HOUR_MS
    chosen = ("--days", "2", "--symbols", SYMBOL, "--intervals", "1h", "--intervals", "5m")
    async with migrated(settings) as connection, sim_exchange(now_ms=now_ms) as client:
        monkeypatch.setenv("SCREENER_EXCHANGE_REST_URL", client.url)
        first = await run(*chosen)
        hours, fives = await stored(connection, "1h"), await stored(connection, "5m")
        assert first.stdout == f"{len(hours) + len(fives)} bars stored\n"
        assert (len(hours), len(fives)) == (47, 575)
        assert hours == await theirs(client, "1h", hours[0][0], hours[-1][0])
        assert fives == await theirs(client, "5m", fives[0][0], fives[-1][0])
        await connection.execute("DELETE FROM candles_5m WHERE extract(minute FROM time) = 20")
        await connection.execute(
            "UPDATE candles_1h SET minutes = 59, close = 1 WHERE extract(hour FROM time) = 7"
        )
        await run(*chosen)
        assert (await stored(connection, "1h"))[:47] == hours
        assert (await stored(connection, "5m"))[:575] == fives
        assert await rows_of(connection, "candles_15m", "time") == []


@pytest.mark.usefixtures("environment")
async def test_what_cannot_be_backfilled_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="SCREENER_HISTORY_DAYS=400"):
        await run("--days", "401")
    async with migrated(settings), sim_exchange() as client:
        monkeypatch.setenv("SCREENER_EXCHANGE_REST_URL", client.url)
        with pytest.raises(BadInput, match="does not list NOSUCHUSDT"):
            await run("--symbols", f"{SYMBOL},NOSUCHUSDT")
