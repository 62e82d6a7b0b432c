"""Bars of longer timeframes, sent by the feed among the candles: indicators are there from the first minute."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.candles.batch import MINUTE_MS, CandleBatch
from app.errors import BadFrame
from app.market.fields import COLUMN_POSITION
from app.settings import Settings
from app.sinks.tables import sink_tables
from app.wire.frames import decode_bars, decode_metrics, encode_bars, encode_candles, is_bars
from app.wire.topics import Topics
from tests.support.calculator_bench import START_MS, CalculatorBench, candles

HOUR_MS = 60 * MINUTE_MS


def hourly_bars(symbol: str, count: int = 100) -> CandleBatch:
    """The hours that end with the start of the minutes."""
    bars = candles(symbol, 0, count)
    return replace(bars, open_time_ms=START_MS + (np.arange(count) - count) * HOUR_MS)


def last(bench: CalculatorBench, column: str) -> float:
    metrics, _ = decode_metrics(bench.sent[-1])
    return float(metrics.values[-1, COLUMN_POSITION[column]])


async def test_indicators_of_a_long_timeframe_are_there_with_the_first_minute_after_its_bars():
    bench = CalculatorBench(candles("BUSDT", 0, 1))
    await bench.take(candles("AUSDT", 0, 1))
    assert np.isnan(last(bench, "rsi_14_1h"))
    await bench.calculator.handle(0, encode_bars("1h", hourly_bars("AUSDT")))
    assert len(bench.sent) == 1
    await bench.take(candles("AUSDT", 1, 1))
    assert 0 <= last(bench, "rsi_14_1h") <= 100
    assert last(bench, "ema_50_1h") > 0
    assert np.isnan(last(bench, "rsi_14_4h"))


async def test_bars_that_come_first_do_not_keep_the_past_of_their_symbol_in_the_database():
    bench = CalculatorBench(candles("AUSDT", 0, 10))
    await bench.calculator.handle(0, encode_bars("1h", hourly_bars("AUSDT")))
    assert bench.database.questions == []
    assert await bench.take(candles("AUSDT", 8, 1)) == (108 / 103 - 1) * 100
    assert not np.isnan(last(bench, "rsi_14_1h"))


async def test_bars_wait_for_a_database_that_cannot_be_asked_yet():
    bench = CalculatorBench(None)
    await bench.calculator.handle(0, encode_bars("1h", hourly_bars("AUSDT")))
    await bench.take(candles("AUSDT", 0, 1))
    assert np.isnan(last(bench, "rsi_14_1h"))
    bench.database.stored = candles("BUSDT", 0, 1)
    bench.clock.advance_ms(30_000)
    await bench.take(candles("AUSDT", 1, 1))
    assert not np.isnan(last(bench, "rsi_14_1h"))


async def test_the_states_made_of_bars_are_written_with_the_next_minute():
    bench = CalculatorBench(candles("BUSDT", 0, 1))
    await bench.take(candles("AUSDT", 0, 1))
    await bench.take(candles("AUSDT", 1, 1))
    before = bench.indicators.writes
    await bench.calculator.handle(0, encode_bars("1h", hourly_bars("AUSDT")))
    await bench.take(candles("AUSDT", 2, 1))
    assert bench.indicators.writes == before + 1


def test_bars_travel_whole_and_are_told_from_candles():
    bars = hourly_bars("AUSDT", 3)
    timeframe, found, _ = decode_bars(encode_bars("1h", bars))
    assert (timeframe, found.symbols, found.open_time_ms.tolist()) == (
        "1h",
        ("AUSDT",),
        bars.open_time_ms.tolist(),
    )
    assert is_bars(encode_bars("15m", bars))
    assert not is_bars(encode_candles(bars))


@pytest.mark.parametrize(
    "data",
    [
        encode_bars("1m", hourly_bars("A", 1)),
        encode_bars("2h", hourly_bars("A", 1)),
        encode_bars("1h", hourly_bars("A", 1))[:-9],
    ],
)
async def test_bars_that_cannot_be_used_are_bad_input(data: bytes):
    bench = CalculatorBench()
    with pytest.raises(BadFrame):
        await bench.calculator.handle(0, data)


def test_bars_are_stored_in_the_table_of_their_length_if_there_is_one():
    tables = {table.name: table for table in sink_tables(Topics.of(Settings.load({}).names()))}
    decoded = tables["candles_1m"].decode(encode_bars("1h", hourly_bars("AUSDT")), 0)
    assert decoded.content.timeframe == "1h"
    assert (len(decoded.content.bars), decoded.rows) == (len(hourly_bars("AUSDT")), 0)
    assert tables["candles_1m"].decode(encode_bars("8h", hourly_bars("AUSDT")), 0).content is None
