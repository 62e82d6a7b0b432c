"""`screener sim-exchange` as its users start it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from app.candle_files.reader import read_candles
from tests.support.market_data import FULL_2024, market_data_dir


@asynccontextmanager
async def started(*options: str) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """(session, URL) of an exchange that answers; at the end SIGTERM ends it properly."""
    command = (sys.executable, "-m", "app", "sim-exchange", "--port", "0", *options)
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | {"SCREENER_LOG_LEVEL": "warning"}, stderr=asyncio.subprocess.PIPE
    )
    try:
        url = await asyncio.wait_for(told_url(process), 60)
        async with aiohttp.ClientSession() as session:
            assert await answer_of(session, url + "/health/ready") == {"ready": True}
            yield session, url
        process.send_signal(signal.SIGTERM)
        _, told = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, told.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def told_url(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    told = []
    while line := await process.stderr.readline():
        told.append(line.decode())
        if found := re.search(r"http://127\.0\.0\.1:\d+", told[-1]):
            return found[0]
    raise AssertionError("".join(told))


async def answer_of(session: aiohttp.ClientSession, url: str, **query: str) -> Any:
    async with session.get(url, params=query) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_a_candle_file_is_played_at_its_own_time_and_fast():
    path = market_data_dir() / FULL_2024
    candles = read_candles(path)
    async with started("--file", str(path), "--file-clock", "own", "--speed", "600") as (session, url):
        info = await answer_of(session, url + "/fapi/v1/exchangeInfo")
        traded = {entry["symbol"] for entry in info["symbols"] if entry["status"] == "TRADING"}
        assert set(candles.symbols) <= traded
        opened_ms = int(candles.open_time_ms[0]) + 1440 * 60_000
        seen = []
        async with session.ws_connect(f"{url}/stream?streams=btcusdt@kline_1m") as socket:
            while len(seen) < 3:
                kline = (await asyncio.wait_for(socket.receive_json(), 30))["data"]["k"]
                seen += [kline] if kline["x"] else []
        assert seen[0]["t"] >= opened_ms
        closes = {
            int(time_ms): float(close)
            for time_ms, close, symbol in zip(
                candles.open_time_ms, candles.close, candles.symbol_index, strict=True
            )
            if candles.symbols[symbol] == "BTCUSDT"
        }
        assert [float(kline["c"]) for kline in seen] == [closes[kline["t"]] for kline in seen]


async def test_faults_come_by_the_schedule_of_a_file(tmp_path: Path):
    schedule = tmp_path / "faults.yaml"
    schedule.write_text("- {at_s: 0, fault: {kind: listing}}\n")
    options = ("--symbols", "3", "--faults", str(schedule), "--start", "2024-02-28T17:30:00", "--seed", "4")
    async with started(*options) as (session, url):
        state = await answer_of(session, url + "/sim/state")
        assert state["faults"]["listing"] == {"commanded": 1, "befallen": 1}
        assert f"{datetime.fromtimestamp(state['now_ms'] / 1000, UTC):%Y-%m-%d %H}" == "2024-02-28 17"
        rows = await answer_of(session, url + "/fapi/v1/klines", symbol="ETHUSDT", interval="1h", limit="5")
        assert len(rows) == 5
