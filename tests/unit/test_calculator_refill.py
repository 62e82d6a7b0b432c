"""What the calculator takes from the database after a start: the past of symbols its tables do not know."""

from __future__ import annotations

import numpy as np

from app.candles.batch import MINUTE_MS
from app.frames import encode_candles
from tests.support.calculator_bench import START_MS, CalculatorBench, candles


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
