"""What the calculator takes from the database after a start: the past of symbols its tables do not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.market.fields import COLUMN_POSITION
from app.wire.frames import decode_metrics, encode_candles
from tests.support.calculator_bench import START_MS, CalculatorBench, candles


def bars(symbol: str, minutes: int, count: int = 100) -> CandleBatch:
    """The bars that end with the start of the minutes."""
    found = candles(symbol, 0, count)
    return replace(found, open_time_ms=START_MS + (np.arange(count) - count) * minutes * MINUTE_MS)


def last(bench: CalculatorBench, column: str) -> float:
    metrics, _ = decode_metrics(bench.sent[-1])
    return float(metrics.values[-1, COLUMN_POSITION[column]])


async def test_the_past_of_an_unknown_symbol_comes_from_the_database_and_goes_into_the_table():
    bench = CalculatorBench(candles("AUSDT", 0, 10))
    change = await bench.take(candles("AUSDT", 8, 1))
    assert change == (108 / 103 - 1) * 100
    assert bench.table.written[:8] == [START_MS + minute * MINUTE_MS for minute in range(8)]
    assert bench.database.questions[0][2] == START_MS + 8 * MINUTE_MS


async def test_a_minute_of_the_database_that_still_waits_in_the_topic_causes_its_metrics():
    bench = CalculatorBench(candles("AUSDT", 0, 10))
    await bench.take(candles("AUSDT", 8, 1))
    before = len(bench.sent)
    await bench.take(candles("AUSDT", 9, 1))
    assert len(bench.sent) == before + 1


async def test_the_database_is_asked_once_a_shard():
    bench = CalculatorBench(candles("AUSDT", 0, 10))
    await bench.take(candles("AUSDT", 8, 1))
    await bench.take(candles("BUSDT", 9, 1))
    assert len(bench.database.questions) == 1


async def test_a_database_that_cannot_be_asked_is_asked_again_after_half_a_minute():
    bench = CalculatorBench(None)
    assert np.isnan(await bench.take(candles("AUSDT", 8, 1)))
    bench.database.stored = candles("BUSDT", 0, 9)
    await bench.take(candles("AUSDT", 9, 1))
    assert len(bench.database.questions) == 1
    bench.clock.advance_ms(30_000)
    change = await bench.take(candles("BUSDT", 9, 1))
    assert len(bench.database.questions) == 2
    assert change == (109 / 104 - 1) * 100


async def test_a_database_that_answers_late_still_gives_the_past_of_what_came_meanwhile():
    bench = CalculatorBench(None)
    await bench.take(candles("AUSDT", 8, 1))
    bench.database.stored = candles("AUSDT", 0, 10)
    bench.clock.advance_ms(30_000)
    assert await bench.take(candles("AUSDT", 9, 1)) == (109 / 104 - 1) * 100
    assert bench.database.questions[1][2] == START_MS + 8 * MINUTE_MS


async def test_a_database_that_does_not_answer_holds_up_one_shard_alone():
    bench = CalculatorBench(None)
    for shard in range(3):
        await bench.calculator.handle(shard, encode_candles(candles(f"{shard}USDT", 8, 1)))
    assert [shard for shard, *_ in bench.database.questions] == [0]
    bench.database.stored = candles("AUSDT", 0, 9)
    bench.clock.advance_ms(30_000)
    for shard in range(3):
        await bench.calculator.handle(shard, encode_candles(candles(f"{shard}USDT", 9, 1)))
    assert [shard for shard, *_ in bench.database.questions] == [0, 0, 1, 2]


async def test_long_indicators_of_an_unknown_symbol_start_from_the_bars_of_the_database():
    bench = CalculatorBench(candles("AUSDT", 0, 10))
    bench.bars.stored = {"4h": bars("AUSDT", 4 * 60), "1d": bars("AUSDT", 24 * 60)}
    await bench.take(candles("AUSDT", 10, 1))
    assert bench.bars.questions == [(("AUSDT",), START_MS + 10 * MINUTE_MS)]
    known = {name: last(bench, name) for name in ("rsi_14_4h", "ema_50_4h", "rsi_14_1d", "ema_50_1d")}
    assert not any(np.isnan(value) for value in known.values()), known
    assert np.isnan(last(bench, "rsi_14_1h"))


async def test_bars_are_loaded_of_unknown_symbols_alone():
    bench = CalculatorBench(candles("AUSDT", 0, 10))
    await bench.take(candles("AUSDT", 10, 1))
    again = CalculatorBench(concatenate([candles("AUSDT", 0, 10), candles("BUSDT", 0, 10)]))
    again.calculator._matrices = bench.calculator._matrices
    await again.take(candles("BUSDT", 11, 1))
    assert [symbols for symbols, _ in again.bars.questions] == [("BUSDT",)]


async def test_a_database_that_gives_no_bars_gives_its_minutes_all_the_same():
    bench = CalculatorBench(candles("AUSDT", 0, 10))
    bench.bars.stored = None
    assert await bench.take(candles("AUSDT", 10, 1)) == (110 / 105 - 1) * 100
    assert np.isnan(last(bench, "rsi_14_4h"))
