"""Longer bars equal a summary of the minutes, whatever came late, corrected, twice or not at all, and stay when these
expire."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from app.candles.batch import MINUTE_MS, CandleBatch
from app.database.connection import connection_url
from app.database.migrate import migrate
from app.settings import Settings
from app.sinks.copy import write_candles
from tests.support.database import MIDNIGHT_MS, candles, moment, rows_of

SYMBOLS = ("AUSDT", "BUSDT")
LENGTHS = {"5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}
NUMBERS = ("volume", "quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume")
EMPTY = "TRUNCATE candles_1m, candle_symbols, candles_5m, candles_15m, candles_1h, candles_4h, candles_1d"
Minute = tuple[str, int]

# Close together, so that bars fill up, and over the ends of hours and days.
minutes = st.builds(
    lambda day, hour, minute: day * 1440 + hour * 60 + minute,
    st.integers(0, 2),
    st.sampled_from([0, 3, 4, 23]),
    st.sampled_from([0, 1, 2, 3, 4, 5, 14, 15, 58, 59]),
)
writes = st.lists(st.tuples(st.sampled_from(SYMBOLS), minutes), min_size=1, max_size=12, unique=True)
steps = st.lists(st.tuples(writes, st.integers(0, 10**6), st.booleans()), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def schema(stack: Any) -> Settings:
    settings = Settings.load({}, postgres_url=stack.urls["postgres"], namespace="rollups_property")
    migrate(settings.postgres())
    return settings


def batch_of(wanted: list[Minute], seed: int) -> CandleBatch:
    """Candles of these minutes, some of which lack taker volumes."""
    made = candles(["AUSDT"], len(wanted), seed=seed)
    index = np.array([SYMBOLS.index(symbol) for symbol, _ in wanted], np.int32)
    made.taker_buy_volume[np.arange(len(wanted)) % 5 == 4] = np.nan
    times = np.array([MIDNIGHT_MS + minute * MINUTE_MS for _, minute in wanted])
    return replace(made, symbols=SYMBOLS, symbol_index=index, open_time_ms=times)


class Model:
    """Minutes as they are in the table, and as they are in the bars."""

    def __init__(self) -> None:
        self.stored: dict[Minute, dict[str, float]] = {}
        self.counted: dict[Minute, dict[str, float]] = {}

    def write(self, batch: CandleBatch) -> None:
        names = ("open", "high", "low", "close", *NUMBERS)
        written = [
            (batch.symbol_of(row), int(batch.open_time_ms[row] - MIDNIGHT_MS) // MINUTE_MS)
            for row in range(len(batch))
        ]
        for row, minute in enumerate(written):
            self.stored[minute] = {name: getattr(batch, name)[row].item() for name in names}
        for symbol, bar in {(symbol, minute // 5) for symbol, minute in written}:
            members = [(symbol, bar * 5 + n) for n in range(5)]
            had = {one for one in members if one in self.counted}
            there = {one for one in members if one in self.stored}
            for one in there if had <= there else there - had:
                self.counted[one] = self.stored[one]

    def expire(self) -> int:
        """Before the day of the last minute that every symbol has; return its number."""
        newest = [max((m for s, m in self.stored if s == symbol), default=0) for symbol in SYMBOLS]
        before = min(newest) // 1440 * 1440
        self.stored = {key: value for key, value in self.stored.items() if key[1] >= before}
        return before

    def bars(self, length: int) -> list[dict[str, Any]]:
        found = []
        for symbol in SYMBOLS:
            mine = {minute: values for (name, minute), values in self.counted.items() if name == symbol}
            for bar in sorted({minute // length for minute in mine}):
                if (bar + 1) * length > max(mine) + 1:
                    continue
                members = [mine[minute] for minute in sorted(mine) if minute // length == bar]
                found.append(
                    {
                        "symbol": symbol,
                        "time": moment(MIDNIGHT_MS + bar * length * MINUTE_MS),
                        "open": members[0]["open"],
                        "high": max(one["high"] for one in members),
                        "low": min(one["low"] for one in members),
                        "close": members[-1]["close"],
                        "minutes": len(members),
                    }
                    | {name: total([one[name] for one in members]) for name in NUMBERS}
                )
        return found


def total(values: list[float]) -> Any:
    return None if np.isnan(values).any() else pytest.approx(sum(values), rel=1e-12)


@given(steps=steps)
@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_bars_equal_a_summary_of_the_minutes(
    schema: Settings, steps: list[tuple[list[Minute], int, bool]]
) -> None:
    model = Model()
    url = connection_url(schema.postgres())
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(EMPTY)
    for wanted, seed, expire in steps:
        # a connection each: nothing is remembered but in the database
        async with await AsyncConnection.connect(url, autocommit=True) as connection:
            batch = batch_of(wanted, seed)
            await write_candles(connection, batch)
            model.write(batch)
            if expire:
                before = moment(MIDNIGHT_MS + model.expire() * MINUTE_MS)
                await connection.execute("DELETE FROM candles_1m WHERE time < %s", (before,))
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        for timeframe, length in LENGTHS.items():
            rows = await rows_of(connection, f"candles_{timeframe}", "symbol, time")
            for row in rows:
                row.pop("present", None)
            assert rows == model.bars(length), timeframe
