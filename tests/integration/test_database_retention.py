"""What is older than the retention goes, whatever the time it was written."""

from __future__ import annotations

import asyncio

from app.candles.batch import MINUTE_MS
from app.clock import ManualClock
from app.database.connection import open_pool
from app.database.copy import write_alerts, write_candles, write_metrics
from app.database.retention import delete_older, run_retention
from app.database.timescale import use_timescale
from app.settings import Settings
from tests.support.database import MIDNIGHT_MS, alert, candles, metrics, migrated, moment, rows_of
from tests.support.eventually import eventually

HOUR_MS = 3_600_000


async def test_rows_before_the_time_go_in_batches_and_the_others_stay(settings: Settings) -> None:
    minutes = candles(["AUSDT", "BUSDT"], 60)
    async with migrated(settings) as connection:
        await write_candles(connection, minutes)
        await write_metrics(connection, metrics(minutes))
        await write_alerts(connection, [alert(1)])
        half_past_ms = MIDNIGHT_MS + 30 * MINUTE_MS
        # of each symbol 30 candles, and bars opened before half past: 30 of 1m, 6 of 5m, 2 of 15m, 1 of 1h
        assert await delete_older(connection, half_past_ms, batch_rows=7) == 2 * (30 + 30 + 6 + 2 + 1)
        for table in ("candles_1m", "metrics_calculated"):
            kept = await rows_of(connection, table, "time")
            assert kept[0]["time"] == moment(half_past_ms)
        assert len(await rows_of(connection, "alert_history", "seq")) == 1
        assert await delete_older(connection, half_past_ms) == 0


async def test_age_is_measured_by_the_given_clock(settings: Settings) -> None:
    clock = ManualClock(MIDNIGHT_MS + 2 * HOUR_MS + 10 * MINUTE_MS)
    stop = asyncio.Event()
    async with migrated(settings) as connection, await open_pool(settings) as pool:
        await write_candles(connection, candles(["AUSDT"], 60))
        job = asyncio.create_task(run_retention(pool, 2, clock, stop))

        async def only_the_last_two_hours() -> bool:
            kept = await rows_of(connection, "candles_1m", "time")
            return len(kept) == 50 and kept[0]["time"] == moment(MIDNIGHT_MS + 10 * MINUTE_MS)

        await eventually(only_the_last_two_hours)
        stop.set()
        await job


async def test_a_retention_of_0_hours_keeps_everything(settings: Settings) -> None:
    async with migrated(settings) as connection, await open_pool(settings) as pool:
        await write_candles(connection, candles(["AUSDT"], 60))
        await run_retention(pool, 0, ManualClock(MIDNIGHT_MS + 10**12), asyncio.Event())
        assert len(await rows_of(connection, "candles_1m", "time")) == 60


async def test_a_server_without_timescaledb_is_left_to_our_own_retention(settings: Settings) -> None:
    async with migrated(settings):
        assert use_timescale(settings) is False
