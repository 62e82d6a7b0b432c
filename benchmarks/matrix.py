"""The market matrix: time per candle by frame size, compared with the usual ways to the same numbers; and its memory.

Why it is hot: every live update of every symbol passes through it, and all symbols at once when a minute closes.
Run with `python -m benchmarks.matrix`; `--quick` leaves out the frame of 5,000.

Each contender computes, from one candle of each symbol, the values of all seven timeframes at that minute:
    matrix, closed / forming   a frame of one minute; closed frames also advance the state
    brute force                windows only: NumPy over the last two days of all symbols of the frame at once
    talipp                     indicators only, fed one value at a time (a forming bar is replaced)
    TA-Lib                     indicators only, over the last 300 closed bars and the current one
The time of a frame is the median over frames. The matrix's closed frames cover whole hours, so that the work at the
ends of bars is included.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import talib
from talipp.indicators import ATR, BB, EMA, MACD, RSI
from talipp.ohlcv import OHLCV

from app.candles.batch import MINUTE_MS, CandleBatch, FloatArray
from app.market.fields import METRIC_COLUMNS, PIVOT_FIELDS, WINDOW_FIELDS
from app.market.matrix import MarketMatrix
from app.market.timeframes import TIMEFRAMES

FRAME_SYMBOLS = (1, 10, 100, 500, 5_000)
START = 26_928_000
"""A Sunday midnight, in minutes since 1970."""
WARM_UP_MINUTES = 2_880 + 60
MEASURED_MINUTES = 60
WINDOW_COLUMNS = tuple(f"{field}_{name}" for name in TIMEFRAMES for field in (*WINDOW_FIELDS, *PIVOT_FIELDS))
BACKTEST_COLUMNS = tuple(
    f"{field}_{name}" for field in ("price_change", "quote_volume", "volume_ratio")
    for name in ("5m", "15m", "1h", "8h", "1d")
)  # fmt: skip


class Market:
    """A seeded random walk of many symbols; every minute of every symbol has a candle."""

    def __init__(self, symbols: int) -> None:
        self._rng = np.random.default_rng(3)
        self._names = tuple(f"S{k:04}" for k in range(symbols))
        self._price = np.exp(self._rng.normal(0.0, 3.0, symbols))

    def minutes(self, first: int, count: int, closed: bool = True) -> CandleBatch:
        """Return `count` minutes of all symbols, ordered by minute, then symbol."""
        width = len(self._names)
        steps = 1.0 + self._rng.normal(0.0, 0.001, (count, width))
        close = self._price * np.cumprod(steps, axis=0)
        before = np.concatenate((self._price[np.newaxis], close[:-1]))
        if closed:
            self._price = close[-1]
        volume = np.exp(self._rng.normal(0.0, 2.0, close.shape))
        rows = close.size
        times = np.repeat((START + first + np.arange(count)) * MINUTE_MS, width)
        flat = {
            "open": before, "high": np.maximum(before, close) * 1.0005, "low": np.minimum(before, close) *
            0.9995,
            "close": close, "volume": volume, "quote_volume": volume * close,
        }  # fmt: skip
        return CandleBatch(
            symbols=self._names,
            symbol_index=np.tile(np.arange(width, dtype=np.int32), count),
            open_time_ms=times,
            trades=np.ones(rows, dtype=np.int64),
            taker_buy_volume=np.full(rows, np.nan),
            taker_buy_quote_volume=np.full(rows, np.nan),
            quote_estimated=np.zeros(rows, dtype=np.bool_),
            closed=np.full(rows, closed),
            event_ts_ms=times,
            ingest_ts_ms=times,
            **{name: array.ravel() for name, array in flat.items()},
        )


def median_s(steps: Iterator[Callable[[], object]]) -> float:
    """Return the median CPU seconds of the steps: the machine may be shared, and one thread does all the work."""
    took = []
    gc.collect()
    gc.disable()
    for step in steps:
        begin = time.process_time()
        step()
        took.append(time.process_time() - begin)
    gc.enable()
    return statistics.median(took)


def matrix_us(symbols: int, columns: Sequence[str]) -> tuple[float, float]:
    """Return the CPU microseconds per candle in closed and in forming one-minute frames."""
    market, matrix = Market(symbols), MarketMatrix(columns=columns)
    for minute in range(0, WARM_UP_MINUTES, 15):
        matrix.restore_minutes(market.minutes(minute, 15))
    matrix.update(market.minutes(WARM_UP_MINUTES, 15))
    first = WARM_UP_MINUTES + 15
    forming = [market.minutes(first, 1, closed=False) for _ in range(30)]
    forming_s = median_s((lambda f=f: matrix.update(f)) for f in forming)
    frames = [market.minutes(first + i, 1) for i in range(MEASURED_MINUTES)]
    total = 0.0
    for quarter in range(0, MEASURED_MINUTES, 15):
        total += 15 * median_s((lambda f=f: matrix.update(f)) for f in frames[quarter : quarter + 15])
    return total / MEASURED_MINUTES / symbols * 1e6, forming_s / symbols * 1e6


def throughput(symbols: int, columns: Sequence[str], minutes_in_frame: int) -> float:
    """Return closed candles per CPU second in frames of several minutes, as a replay or a backtest feeds them."""
    market, matrix = Market(symbols), MarketMatrix(columns=columns)
    matrix.restore_minutes(market.minutes(0, 1_440))
    frames = [market.minutes(1_440 + i, minutes_in_frame) for i in range(0, 480, minutes_in_frame)]
    seconds = median_s((lambda f=f: matrix.update(f)) for f in frames)
    return symbols * minutes_in_frame / seconds


def memory_bytes(symbols: int) -> float:
    """Return the bytes per symbol when every ring is full."""
    market, matrix = Market(symbols), MarketMatrix()
    for minute in range(0, WARM_UP_MINUTES, 15):
        matrix.restore_minutes(market.minutes(minute, 15))
    matrix.update(market.minutes(WARM_UP_MINUTES, 1))
    return matrix.memory_bytes() / symbols


def brute_force_us(symbols: int) -> float:
    """Measure windows and pivots computed from the last two days of minutes, all symbols at once."""
    batch = Market(symbols).minutes(0, 2_880)
    planes = {
        name: np.ascontiguousarray(getattr(batch, name).reshape(2_880, symbols))
        for name in ("open", "high", "low", "close", "volume", "quote_volume", "trades")
    }
    seconds = median_s((lambda: _brute_force(planes)) for _ in range(5))
    return seconds / symbols * 1e6


def _brute_force(planes: dict[str, FloatArray]) -> list[FloatArray]:
    found: list[FloatArray] = []
    close = planes["close"]
    for n in TIMEFRAMES.values():
        high, low = planes["high"][-n:].max(axis=0), planes["low"][-n:].min(axis=0)
        volume, quote = planes["volume"][-n:].sum(axis=0), planes["quote_volume"][-n:].sum(axis=0)
        vwap = quote / volume
        pivot = (high + low + close[-1]) / 3
        found += [
            planes["open"][-n], high, low, close[-1], volume, quote, planes["trades"][-n:].sum(axis=0), vwap,
            (close[-1] / close[-1 - n] - 1) * 100, quote / planes["quote_volume"][-2 * n : -n].sum(axis=0),
            close[-1] / vwap * ((close[-1] - low) - (high - close[-1])) / (high - low), pivot,
        ]  # fmt: skip
        found += [pivot + ratio * (high - low) for ratio in (0.382, 0.618, 1.0, -0.382, -0.618, -1.0)]
    return found


def talipp_us() -> float:
    """Measure one symbol: the bar of each timeframe is replaced in every indicator."""
    rng = np.random.default_rng(4)
    per_timeframe = []
    for _ in TIMEFRAMES:
        of_close = [RSI(14), MACD(12, 26, 9), BB(20, 2), EMA(20), EMA(50)]
        of_bar = ATR(14)
        for close in np.exp(rng.normal(0.0, 0.01, 100)).tolist():
            for indicator in of_close:
                indicator.add(close)
            of_bar.add(OHLCV(close, close, close, close))
        per_timeframe.append((of_close, of_bar))

    def update() -> None:
        for of_close, of_bar in per_timeframe:
            for indicator in of_close:
                indicator.update(1.001)
            of_bar.update(OHLCV(1.0, 1.002, 0.999, 1.001))

    return median_s(update for _ in range(200)) * 1e6


def talib_us() -> float:
    """Measure one symbol: every function over the 301 bars of each timeframe."""
    close = np.exp(np.random.default_rng(5).normal(0.0, 0.01, 301))
    high, low = close * 1.001, close * 0.999

    def update() -> None:
        for _ in TIMEFRAMES:
            talib.RSI(close, 14)
            talib.MACD(close, 12, 26, 9)
            talib.BBANDS(close, 20, 2, 2)
            talib.ATR(high, low, close, 14)
            talib.EMA(close, 20)
            talib.EMA(close, 50)

    return median_s(update for _ in range(200)) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="time per candle and memory of the market matrix")
    parser.add_argument("--quick", action="store_true", help="without the frame of 5,000 symbols")
    sizes = FRAME_SYMBOLS[:-1] if parser.parse_args().quick else FRAME_SYMBOLS
    print(
        "| symbols in the frame | windows, closed | windows, forming | all 219, closed | all 219, forming |"
    )
    print("|--:|--:|--:|--:|--:|")
    for symbols in sizes:
        cells = [*matrix_us(symbols, WINDOW_COLUMNS), *matrix_us(symbols, METRIC_COLUMNS)]
        print(f"| {symbols:,} | " + " | ".join(f"{us:,.2f}" for us in cells) + " |", flush=True)
    print("\n| contender | µs a candle |\n|---|--:|")
    for symbols in (1, 500):
        print(
            f"| brute force, windows only, {symbols} symbols | {brute_force_us(symbols):,.0f} |", flush=True
        )
    print(f"| talipp, indicators only | {talipp_us():,.0f} |", flush=True)
    print(f"| TA-Lib, indicators only | {talib_us():,.0f} |", flush=True)
    print("\n| replay | candles/s |\n|---|--:|")
    for symbols, columns, minutes in (
        (45, METRIC_COLUMNS, 20), (91, METRIC_COLUMNS, 20), (500, METRIC_COLUMNS, 15),
        (91, BACKTEST_COLUMNS, 60), (500, BACKTEST_COLUMNS, 60),
    ):  # fmt: skip
        rate = throughput(symbols, columns, minutes)
        print(f"| {symbols} symbols x {minutes} minutes, {len(columns)} columns | {rate:,.0f} |", flush=True)
    print(f"\nmemory: {memory_bytes(500) / 1000:,.1f} KB a symbol")


if __name__ == "__main__":
    main()
