"""When the calculator writes the indicator states: every hour of market time, and not while alerts wait."""

from __future__ import annotations

from app.candles.batch import concatenate
from tests.support.calculator_bench import CalculatorBench, candles


async def bench_with_a_first_snapshot() -> CalculatorBench:
    bench = CalculatorBench()
    await bench.take(candles("AUSDT", 0, 1))
    assert bench.indicators.writes == 1
    return bench


async def test_for_an_hour_none_is_written():
    bench = await bench_with_a_first_snapshot()
    await bench.take(candles("AUSDT", 1, 59))
    await bench.take(candles("AUSDT", 59, 1, closed=False))
    assert bench.indicators.writes == 1


async def test_the_closes_of_a_minute_leave_it_to_the_next_forming_update():
    bench = await bench_with_a_first_snapshot()
    for minute in range(58, 64):
        await bench.take(concatenate([candles(symbol, minute, 1) for symbol in ("AUSDT", "BUSDT")]))
    assert bench.indicators.writes == 1
    await bench.take(candles("AUSDT", 64, 1, closed=False))
    assert bench.indicators.writes == 2
    await bench.take(candles("AUSDT", 65, 1, closed=False))
    assert bench.indicators.writes == 2


async def test_a_frame_of_many_minutes_writes_it_since_nobody_waits_for_those():
    bench = await bench_with_a_first_snapshot()
    await bench.take(candles("AUSDT", 1, 60))
    assert bench.indicators.writes == 2


async def test_without_forming_updates_it_is_ten_minutes_late_at_most():
    bench = await bench_with_a_first_snapshot()
    for minute in range(1, 70):
        await bench.take(candles("AUSDT", minute, 1))
    assert bench.indicators.writes == 1
    await bench.take(candles("AUSDT", 70, 1))
    assert bench.indicators.writes == 2
