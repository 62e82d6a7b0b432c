"""Backtests of rules: candles per second on one core, compared with a plain Python loop over the same candles.

Why it is hot: a trader who changes a threshold waits for weeks of history of hundreds of symbols. Both
contenders must find the same alerts. Run: python -m benchmarks.backtest
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from itertools import accumulate

import numpy as np

from app.backtest.backtest import Backtest, Step
from app.backtest.forward import ForwardReturns
from app.candles.batch import MINUTE_MS, CandleBatch
from app.rules.evaluation.rulebook import RuleBook
from app.rules.files import shipped_rules
from benchmarks.rules import BY_HAND, FUTURES

START_MS = 1_618_617_600_000
ROWS_PER_BATCH = 20_000
COOLDOWN_MINUTES = 5
WINDOWS = {"5m": 5, "15m": 15, "1h": 60, "8h": 480, "1d": 1440}

Alerts = set[tuple[str, str, int]]


def history(symbols: int, minutes: int) -> CandleBatch:
    """Return a market with common moves, quiet stretches and bursts, in order of time; always the same one."""
    rng = np.random.default_rng(7)
    burst = np.repeat(rng.choice([1.0, 1.0, 1.0, 4.0], minutes // 60 + 1), 60)[:minutes, None]
    common = rng.normal(0, 0.0006, (minutes, 1)) * burst
    steps = common + rng.standard_t(3, (minutes, symbols)) * 0.0006 * burst
    close = 100 * np.exp(np.cumsum(steps, axis=0))
    opened = np.vstack((close[:1], close[:-1]))
    size = np.exp(rng.normal(10, 1.5, symbols))
    quote = size * burst * np.exp(rng.normal(0, 0.8, (minutes, symbols)))
    return candles_of(tuple(f"S{at}USDT" for at in range(symbols)), START_MS, opened, close, quote)


def candles_of(
    names: tuple[str, ...], first_ms: int, opened: np.ndarray, close: np.ndarray, quote: np.ndarray
) -> CandleBatch:
    """Return closed candles in order of time; prices and turnover have the shape (minutes, symbols)."""
    minutes, symbols = close.shape
    rows = minutes * symbols
    open_time_ms = np.repeat(first_ms + MINUTE_MS * np.arange(minutes), symbols)
    return CandleBatch(
        symbols=names,
        symbol_index=np.tile(np.arange(symbols, dtype=np.int32), minutes),
        open_time_ms=open_time_ms,
        open=opened.ravel(),
        high=np.maximum(opened, close).ravel(),
        low=np.minimum(opened, close).ravel(),
        close=close.ravel(),
        volume=(quote / close).ravel(),
        quote_volume=quote.ravel(),
        trades=np.full(rows, 10),
        taker_buy_volume=np.full(rows, np.nan),
        taker_buy_quote_volume=np.full(rows, np.nan),
        quote_estimated=np.zeros(rows, np.bool_),
        closed=np.ones(rows, np.bool_),
        event_ts_ms=open_time_ms + MINUTE_MS,
        ingest_ts_ms=open_time_ms + MINUTE_MS,
    )


def batches(candles: CandleBatch) -> Iterator[CandleBatch]:
    for start in range(0, len(candles), ROWS_PER_BATCH):
        yield candles.take(slice(start, start + ROWS_PER_BATCH))


def plain_python(candles: CandleBatch) -> Alerts:
    """Find the alerts symbol by symbol and minute by minute, with running totals, lists, and ten handwritten
    predicates."""
    alerts: Alerts = set()
    order = np.argsort(candles.symbol_index, kind="stable")
    per_symbol = len(candles) // len(candles.symbols)
    for at, symbol in enumerate(candles.symbols):
        rows = order[at * per_symbol : (at + 1) * per_symbol]
        closes, quotes = candles.close[rows].tolist(), candles.quote_volume[rows].tolist()
        _one_symbol(symbol, closes, quotes, alerts)
    return alerts


def _one_symbol(symbol: str, closes: list[float], quotes: list[float], alerts: Alerts) -> None:
    totals = [0.0, *accumulate(quotes)]
    fired: dict[str, int] = {}
    null = float("nan")
    for minute, close in enumerate(closes):
        metrics = {}
        for name, length in WINDOWS.items():
            before = minute - length
            metrics[f"c{name}"] = (close / closes[before] - 1) * 100 if before >= 0 else null
            metrics[f"v{name}"] = totals[minute + 1] - totals[before + 1] if before >= -1 else null
        for rule_type, predicate in BY_HAND.items():
            if (
                predicate(metrics, 1.0)
                and minute - fired.get(rule_type, -COOLDOWN_MINUTES) >= COOLDOWN_MINUTES
            ):
                fired[rule_type] = minute
                alerts.add((rule_type, symbol, START_MS + minute * MINUTE_MS))


def main() -> None:
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, one core, ten rules")
    print(f"CPU time, batches of {ROWS_PER_BATCH:,} candles, best of three\n")
    print("| symbols | days |   candles | alerts | candles/s | plain loop candles/s | ratio | outcomes s |")
    print("|--------:|-----:|----------:|-------:|----------:|---------------------:|------:|-----------:|")
    for symbols, days in ((20, 7), (100, 3), (500, 2)):
        candles = history(symbols, days * 1440)
        taken = []
        for _ in range(3):
            backtest = Backtest(RuleBook.compile(shipped_rules()[:FUTURES], "close"))
            began = time.process_time()
            for batch in batches(candles):
                backtest.feed(batch)
            taken.append(time.process_time() - began)
        began = time.process_time()
        expected = plain_python(candles)
        plain_s = time.process_time() - began
        found = {(entry.rule_type, entry.symbol, entry.open_time_ms) for entry in backtest.entries}
        if found != expected:
            raise SystemExit(f"the alerts differ in {len(found ^ expected)}: the figures would mean nothing")
        began = time.process_time()
        returns = ForwardReturns()
        returns.take(Step(candles, backtest.entries, np.zeros(len(backtest.entries))))
        returns.outcomes(backtest.awake_ms)
        outcomes_s = time.process_time() - began
        rows = len(candles)
        print(
            f"| {symbols:7,} | {days:4} | {rows:9,} | {len(found):6,} | {rows / min(taken):9,.0f} "
            f"| {rows / plain_s:20,.0f} | {plain_s / min(taken):5.1f} | {outcomes_s:10.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
