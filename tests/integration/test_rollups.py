"""Longer bars beside the minutes: charts that outlive them, bars of the exchange, bars that were left out."""

from __future__ import annotations

import numpy as np
from psycopg import AsyncConnection

from app.candles.batch import MINUTE_MS, CandleBatch
from app.candles.intervals import DAY_MS, INTERVALS
from app.database.candles.kline_rows import Kline
from app.database.candles.klines import klines
from app.database.candles.minutes import stored_symbols
from app.settings import Settings
from app.sinks.copy import write_candles
from app.sinks.exchange_bars import write_bars
from app.sinks.retention import delete_older
from app.sinks.rollups import roll_up_stored
from tests.support.database import MIDNIGHT_MS, candles, migrated, rows_of

BARS = ("candles_5m", "candles_15m", "candles_1h", "candles_4h", "candles_1d")


async def charts(connection: AsyncConnection) -> dict[str, list[Kline] | None]:
    return {name: await klines(connection, "AUSDT", INTERVALS[name], 1500) for name in INTERVALS}


async def all_bars(connection: AsyncConnection) -> dict[str, list[dict[str, object]]]:
    return {table: await rows_of(connection, table, "symbol, time") for table in BARS}


async def test_charts_stay_when_the_minutes_expire_and_their_last_bars_form(settings: Settings) -> None:
    """Three days, 7 h and 23 minutes."""
    minutes = candles(["AUSDT"], 3 * 1440 + 443)
    async with migrated(settings) as connection:
        await write_candles(connection, minutes)
        before = await charts(connection)
        await delete_older(connection, MIDNIGHT_MS + 3 * DAY_MS)
        after = await charts(connection)
    days = after["1d"]
    assert days is not None
    assert [bar.open_time_ms for bar in days] == [MIDNIGHT_MS + n * DAY_MS for n in range(4)]
    assert days[3].close == minutes.close[-1]
    assert days[3].high == minutes.high[3 * 1440 :].max()
    short = {"1m", "3m"}
    assert {name: after[name] for name in after if name not in short} == {
        name: before[name] for name in before if name not in short
    }
    assert before["1m"] != after["1m"]


async def test_charts_of_a_symbol_that_is_forgotten_stay(settings: Settings) -> None:
    async with migrated(settings) as connection:
        await write_candles(connection, candles(["AUSDT"], 2 * 1440))
        before = await klines(connection, "AUSDT", INTERVALS["1h"], 100)
        await delete_older(connection, MIDNIGHT_MS + 30 * DAY_MS)
        assert await stored_symbols(connection) == []
        assert await klines(connection, "AUSDT", INTERVALS["1h"], 100) == before
        assert await klines(connection, "AUSDT", INTERVALS["1m"], 100) is None
        assert await klines(connection, "BUSDT", INTERVALS["1h"], 100) is None


def exchange_bars(number: int, minutes: int, start_ms: int = MIDNIGHT_MS) -> CandleBatch:
    open_time_ms = start_ms + np.arange(number) * minutes * MINUTE_MS
    return candles(["AUSDT"], number, seed=9, open_time_ms=open_time_ms)


async def test_bars_of_the_exchange_fill_gaps_and_leave_whole_bars(settings: Settings) -> None:
    """Of four hours of minutes one of the second hour is missing; it comes late, when the others have expired."""
    minutes = candles(["AUSDT"], 240)
    late = np.arange(240) == 63
    theirs = exchange_bars(6, 60)
    async with migrated(settings) as connection:
        await write_candles(connection, minutes.take(~late))
        own = await rows_of(connection, "candles_1h", "time")
        assert [row["minutes"] for row in own] == [60, 59, 60, 60]
        assert await write_bars(connection, "1h", theirs) == 6
        assert await write_bars(connection, "1h", theirs) == 6
        assert await write_bars(connection, "8h", theirs) == 0
        stored = await rows_of(connection, "candles_1h", "time")
        assert [row["minutes"] for row in stored] == [60] * 6
        assert [stored[at] for at in (0, 2, 3)] == [own[at] for at in (0, 2, 3)]
        assert [stored[at]["close"] for at in (1, 4, 5)] == theirs.close[[1, 4, 5]].tolist()
        await delete_older(connection, MIDNIGHT_MS + DAY_MS)
        await write_candles(connection, minutes.take(late))
        fives = await rows_of(connection, "candles_5m", "time")
        assert [row["minutes"] for row in fives] == [5] * 48
        hours = await klines(connection, "AUSDT", INTERVALS["1h"], 100)
    assert hours is not None
    # the second hour is whole in the 5m bars now
    assert [bar.close for bar in hours] == [*minutes.close[59::60], *theirs.close[4:]]


async def test_a_whole_bar_of_the_exchange_is_not_made_of_fewer_minutes_again(settings: Settings) -> None:
    five = exchange_bars(1, 5)
    async with migrated(settings) as connection:
        await write_candles(connection, candles(["AUSDT"], 10).take(np.array([0, 3, 9])))
        await write_bars(connection, "5m", five)
        before = await all_bars(connection)
        await write_candles(connection, candles(["AUSDT"], 1, MIDNIGHT_MS + 2 * MINUTE_MS))
        assert await all_bars(connection) == before
        assert (before["candles_5m"][0]["minutes"], before["candles_5m"][0]["close"]) == (5, five.close[0])


async def test_bars_that_were_left_out_are_made_at_the_start(settings: Settings) -> None:
    """As after an upgrade, or beside a sink of an earlier version; the second time there is nothing to do."""
    async with migrated(settings) as connection:
        await write_candles(connection, candles(["AUSDT", "BUSDT"], 1500))
        await write_candles(connection, candles(["BUSDT"], 1500, MIDNIGHT_MS + 30 * DAY_MS))
        expected = await all_bars(connection)
        await connection.execute(f"TRUNCATE {', '.join(BARS)}".encode())
        await connection.execute("UPDATE candle_symbols SET rolled_to = NULL")
        assert await roll_up_stored(connection) == 2
        assert await all_bars(connection) == expected
        assert await roll_up_stored(connection) == 0
        await connection.execute("DELETE FROM candles_1h WHERE symbol = 'BUSDT' AND time >= '2023-11-16Z'")
        await connection.execute("UPDATE candle_symbols SET rolled_to = '2023-11-16Z' WHERE symbol = 'BUSDT'")
        assert await roll_up_stored(connection) == 1
        assert await rows_of(connection, "candles_1h", "symbol, time") == expected["candles_1h"]
