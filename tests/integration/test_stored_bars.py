"""A calculator that starts without its tables has its long indicators from the bars of the database."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.database.candles.minutes import database_history
from app.database.candles.stored_bars import database_bars, load_bars
from app.local.servers.ports import free_port
from app.market.fields import COLUMN_POSITION
from app.market.timeframes import TIMEFRAMES, WARM_UP_BARS, WARMED_BY_BARS
from app.settings import Settings
from app.sinks.copy import write_candles
from app.sinks.exchange_bars import write_bars
from app.telemetry import database_metrics
from app.wire.frames import decode_metrics, encode_candles
from tests.support.calculator_bench import CalculatorBench
from tests.support.database import MIDNIGHT_MS, candles, migrated
from tests.support.market_bars_oracle import ema
from tests.support.metric_values import UNREAD

LONG = {"4h": 240, "8h": 480, "1d": 1440}
UNKNOWN = [f"U{number}USDT" for number in range(120)]
NOW = 10
"""Minutes since midnight that are stored."""


def walk(symbol: str, rows: int, first_ms: int, step_ms: int, seed: int) -> CandleBatch:
    """Bars or minutes whose closes walk at random."""
    close = 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, rows)))
    prices = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close}
    times = first_ms + step_ms * np.arange(rows)
    return replace(candles([symbol], rows), open_time_ms=times, event_ts_ms=times + MINUTE_MS, **prices)


def bars_before_midnight(symbol: str, timeframe: str, count: int, seed: int) -> CandleBatch:
    length_ms = TIMEFRAMES[timeframe] * MINUTE_MS
    return walk(symbol, count, MIDNIGHT_MS - count * length_ms, length_ms, seed)


async def test_long_indicators_are_there_with_the_first_minute_after_a_cold_start(settings: Settings):
    symbols = ("AUSDT", "BUSDT")
    stored = {
        (timeframe, symbol): bars_before_midnight(symbol, timeframe, 700, seed)
        for timeframe in ("4h", "1d")
        for seed, symbol in enumerate(symbols)
    }
    minutes = {symbol: walk(symbol, NOW + 1, MIDNIGHT_MS, MINUTE_MS, 9) for symbol in symbols}
    async with migrated(settings) as connection:
        for (timeframe, _), bars in stored.items():
            await write_bars(connection, timeframe, bars)
        for of_symbol in minutes.values():
            await write_candles(connection, of_symbol.take(slice(0, NOW)))
    bench = CalculatorBench()
    metrics = database_metrics(UNREAD)
    bench.ask(database_history(settings.postgres(), 1, metrics), database_bars(settings.postgres(), metrics))
    newest = concatenate([of_symbol.take([NOW]) for of_symbol in minutes.values()])
    await bench.calculator.handle(0, encode_candles(newest))
    found, _ = decode_metrics(bench.sent[-1])
    for row in range(len(found)):
        symbol = found.symbols[found.symbol_index[row]]
        price = float(minutes[symbol].close[NOW])
        for timeframe in LONG:
            closes = stored["1d" if timeframe == "1d" else "4h", symbol].close
            closes = closes[1::2] if timeframe == "8h" else closes
            expected = ema([*closes[-WARM_UP_BARS:].tolist(), price], 50)[-1]
            value = float(found.values[row, COLUMN_POSITION[f"ema_50_{timeframe}"]])
            np.testing.assert_allclose(value, expected, rtol=1e-9, err_msg=f"{symbol} {timeframe}")
            assert 0 < found.values[row, COLUMN_POSITION[f"rsi_14_{timeframe}"]] < 100


async def test_bars_come_back_as_they_were_without_those_that_miss_minutes(settings: Settings):
    bars = bars_before_midnight("AUSDT", "4h", 4, 1)
    async with migrated(settings) as connection:
        await write_bars(connection, "4h", bars)
        await connection.execute(
            "UPDATE candles_4h SET minutes = 239 WHERE time = (SELECT min(time) FROM candles_4h)"
        )
        found = await load_bars(connection, "4h", [*UNKNOWN, "AUSDT"], MIDNIGHT_MS + 239 * MINUTE_MS)
        earlier = await load_bars(connection, "4h", ["AUSDT"], MIDNIGHT_MS - 1)
        eight = await load_bars(connection, "8h", ["AUSDT"], MIDNIGHT_MS)
        nothing = {
            name: await load_bars(connection, name, ["UNKNOWN"], MIDNIGHT_MS) for name in WARMED_BY_BARS
        }
    assert [found.symbol_of(row) for row in range(len(found))] == ["AUSDT"] * 3
    for name in ("open_time_ms", "open", "high", "low", "close", "volume", "quote_volume", "trades"):
        np.testing.assert_array_equal(getattr(found, name), getattr(bars, name)[1:], err_msg=name)
    assert earlier.open_time_ms.tolist() == bars.open_time_ms[1:3].tolist()
    assert eight.open_time_ms.tolist() == [bars.open_time_ms[2]]
    assert (eight.open[0], eight.close[0]) == (bars.open[2], bars.close[3])
    assert eight.high[0] == bars.high[2:].max()
    assert eight.trades[0] == bars.trades[2:].sum()
    assert {name: len(of_timeframe) for name, of_timeframe in nothing.items()} == dict.fromkeys(
        WARMED_BY_BARS, 0
    )


async def test_a_database_that_cannot_be_asked_gives_no_bars(settings: Settings):
    unreachable = settings.model_copy(update={"postgres_url": f"postgresql://127.0.0.1:{free_port()}/none"})
    bars = database_bars(unreachable.postgres(), database_metrics(UNREAD))
    assert await bars(["AUSDT"], MIDNIGHT_MS) is None
