"""What is older than the retention goes, whatever the time it was written."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from app.candles.batch import MINUTE_MS
from app.clock import ManualClock
from app.database.candles.minutes import newest_minute, stored_symbols
from app.database.connection import open_pool
from app.settings import Settings
from app.sinks.copy import write_alerts, write_candles, write_metrics
from app.sinks.retention import Kept, delete_older, delete_older_bars, run_retention, watch_storage
from app.telemetry import database_metrics, retention_metrics
from tests.support.database import MIDNIGHT_MS, alert, candles, metrics, migrated, moment, rows_of
from tests.support.eventually import eventually
from tests.support.metric_values import UNREAD, value_of

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


async def test_bars_outlive_their_minutes_and_go_by_a_time_of_their_own(settings: Settings) -> None:
    stop = asyncio.Event()
    clock = ManualClock(MIDNIGHT_MS + 31 * HOUR_MS)
    async with migrated(settings) as connection, await open_pool(settings.postgres()) as pool:
        await write_candles(connection, candles(["AUSDT"], 26 * 60))
        job = asyncio.create_task(
            run_retention(pool, Kept(2, 1), clock, stop, database_metrics(UNREAD), retention_metrics(UNREAD))
        )

        async def only_the_last_day_of_bars() -> bool:
            kept = await rows_of(connection, "candles_1h", "time")
            return len(kept) == 19 and kept[0]["time"] == moment(MIDNIGHT_MS + 7 * HOUR_MS)

        await eventually(only_the_last_day_of_bars)
        stop.set()
        await job
        assert await rows_of(connection, "candles_1m", "time") == []
        assert await rows_of(connection, "candles_1d", "time") == []
        assert len(await rows_of(connection, "candles_5m", "time")) == 19 * 12
        assert await delete_older_bars(connection, MIDNIGHT_MS + 8 * HOUR_MS, batch_rows=5) == 12 + 4 + 1


async def test_age_is_measured_by_the_given_clock(settings: Settings) -> None:
    clock = ManualClock(MIDNIGHT_MS + 2 * HOUR_MS + 10 * MINUTE_MS)
    stop = asyncio.Event()
    async with migrated(settings) as connection, await open_pool(settings.postgres()) as pool:
        await write_candles(connection, candles(["AUSDT"], 60))
        job = asyncio.create_task(
            run_retention(pool, Kept(2, 0), clock, stop, database_metrics(UNREAD), retention_metrics(UNREAD))
        )

        async def only_the_last_two_hours() -> bool:
            kept = await rows_of(connection, "candles_1m", "time")
            return len(kept) == 50 and kept[0]["time"] == moment(MIDNIGHT_MS + 10 * MINUTE_MS)

        await eventually(only_the_last_two_hours)
        stop.set()
        await job


async def test_a_retention_of_0_hours_keeps_everything(settings: Settings) -> None:
    stop = asyncio.Event()
    shown = database_metrics(CollectorRegistry())
    looks = shown.queries.labels(operation="watch_storage")
    async with migrated(settings) as connection, await open_pool(settings.postgres()) as pool:
        await write_candles(connection, candles(["AUSDT"], 60))
        job = asyncio.create_task(
            run_retention(
                pool, Kept(0, 0), ManualClock(MIDNIGHT_MS + 10**12), stop, shown, retention_metrics(UNREAD)
            )
        )
        await eventually(lambda: value_of(looks) > 0)
        stop.set()
        await job
        assert len(await rows_of(connection, "candles_1m", "time")) == 60


async def test_rows_that_outlive_the_retention_are_shown(settings: Settings) -> None:
    shown = retention_metrics(CollectorRegistry())
    overdue_s = shown.overdue_s.labels(table="candles_1m")
    before_ms = MIDNIGHT_MS + HOUR_MS
    async with migrated(settings) as connection:
        await write_candles(connection, candles(["AUSDT"], 60))
        await watch_storage(connection, shown, Kept(1, 0), before_ms + HOUR_MS)
        assert value_of(overdue_s) == 3600
        await delete_older(connection, before_ms)
        await watch_storage(connection, shown, Kept(1, 0), before_ms + HOUR_MS)
        assert value_of(overdue_s) == 0


async def test_a_symbol_is_listed_as_long_as_it_has_candles(settings: Settings) -> None:
    async with migrated(settings) as connection:
        await write_candles(connection, candles(["AUSDT", "BUSDT"], 60))
        await write_candles(connection, candles(["BUSDT"], 1, MIDNIGHT_MS + 30 * HOUR_MS))
        await delete_older(connection, MIDNIGHT_MS + HOUR_MS // 2)
        assert await stored_symbols(connection) == ["AUSDT", "BUSDT"]
        await delete_older(connection, MIDNIGHT_MS + HOUR_MS)
        assert await stored_symbols(connection) == ["BUSDT"]
        assert await newest_minute(connection, "BUSDT") == MIDNIGHT_MS + 30 * HOUR_MS
        await write_candles(connection, candles(["AUSDT"], 1, MIDNIGHT_MS + 31 * HOUR_MS))
        assert await stored_symbols(connection) == ["AUSDT", "BUSDT"]
