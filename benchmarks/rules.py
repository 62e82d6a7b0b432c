"""Rules evaluated per frame, compared with the same rules as plain Python predicates on one row at a time.

Why it is hot: all rules are evaluated on every accepted candle update, and on all symbols in one frame when a minute
closes, between the exchange and the alert. Run: python -m benchmarks.rules
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from app.market.fields import COLUMN_POSITION, METRIC_COLUMNS
from app.market.metrics import MetricsBatch
from app.rules.cooldown import decide
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.files import shipped_rules
from app.rules.rule import Rule

Values = dict[str, float]
Predicate = Callable[[Values, float], bool]

FRAMES = 60
FUTURES = 10

BY_HAND: dict[str, Predicate] = {
    "futures_big_bull_60": lambda m, k: (
        m["c1h"] > 1.6 * k and m["c1d"] < 15 and m["c8h"] > m["c1h"] and m["c1d"] > m["c8h"]
        and m["v1h"] > 500_000 and m["v8h"] > 5_000_000 and 6 * m["v1h"] > m["v8h"]
        and 16 * m["v1h"] > m["v1d"]
    ),
    "futures_big_bear_60": lambda m, k: (
        m["c1h"] < -1.6 * k and m["c1d"] > -15 and m["c8h"] < m["c1h"] and m["c1d"] < m["c8h"]
        and m["v1h"] > 500_000 and m["v8h"] > 5_000_000 and 6 * m["v1h"] > m["v8h"]
        and 16 * m["v1h"] > m["v1d"]
    ),
    "futures_pioneer_bull": lambda m, k: (
        m["c5m"] > k and m["c15m"] > 1 and 3 * m["c5m"] > m["c15m"] and 2 * m["v5m"] > m["v15m"]
    ),
    "futures_pioneer_bear": lambda m, k: (
        m["c5m"] < -k and m["c15m"] < -1 and 3 * m["c5m"] < m["c15m"] and 2 * m["v5m"] > m["v15m"]
    ),
    "futures_5_big_bull": lambda m, k: (
        m["c5m"] > 0.6 * k and m["c1d"] < 15 and m["c15m"] > m["c5m"] and m["c1h"] > m["c15m"]
        and m["v5m"] > 100_000 and m["v1h"] > 1_000_000 and m["v5m"] > m["v15m"] / 3
        and m["v5m"] > m["v1h"] / 6 and m["v5m"] > m["v8h"] / 66
    ),
    "futures_5_big_bear": lambda m, k: (
        m["c5m"] < -0.6 * k and m["c1d"] > -15 and m["c15m"] < m["c5m"] and m["c1h"] < m["c15m"]
        and m["v5m"] > 100_000 and m["v1h"] > 1_000_000 and m["v5m"] > m["v15m"] / 3
        and m["v5m"] > m["v1h"] / 6 and m["v5m"] > m["v8h"] / 66
    ),
    "futures_15_big_bull": lambda m, k: (
        m["c15m"] > k and m["c1d"] < 15 and m["c1h"] > m["c15m"] and m["c8h"] > m["c1h"]
        and m["v15m"] > 400_000 and m["v1h"] > 1_000_000 and m["v15m"] > m["v1h"] / 3
        and m["v15m"] > m["v8h"] / 26
    ),
    "futures_15_big_bear": lambda m, k: (
        m["c15m"] < -k and m["c1d"] > -15 and m["c1h"] < m["c15m"] and m["c8h"] < m["c1h"]
        and m["v15m"] > 400_000 and m["v1h"] > 1_000_000 and m["v15m"] > m["v1h"] / 3
        and m["v15m"] > m["v8h"] / 26
    ),
    "futures_bottom_hunter": lambda m, k: (
        m["c1h"] < -0.7 * k and m["c15m"] < -0.6 and m["c5m"] > 0.5 and m["v5m"] > m["v15m"] / 2
        and m["v5m"] > m["v1h"] / 8
    ),
    "futures_top_hunter": lambda m, k: (
        m["c1h"] > 0.7 * k and m["c15m"] > 0.6 and m["c5m"] < -0.5 and m["v5m"] > m["v15m"] / 2
        and m["v5m"] > m["v1h"] / 8
    ),
}  # fmt: skip
FIRST_THRESHOLD = {
    "futures_big_bull_60": "1.6", "futures_big_bear_60": "-1.6", "futures_pioneer_bull": "1",
    "futures_pioneer_bear": "-1", "futures_5_big_bull": "0.6", "futures_5_big_bear": "-0.6",
    "futures_15_big_bull": "1", "futures_15_big_bear": "-1", "futures_bottom_hunter": "-0.7",
    "futures_top_hunter": "0.7",
}  # fmt: skip
TIMEFRAMES = ("5m", "15m", "1h", "8h", "1d")
SHORT_NAMES = {f"c{n}": f"price_change_{n}" for n in TIMEFRAMES} | {
    f"v{n}": f"quote_volume_{n}" for n in TIMEFRAMES
}


def rule_set(count: int) -> tuple[list[Rule], list[tuple[Predicate, float]]]:
    """Return `count` rules: the ten `futures_*` rules, again and again with the first threshold scaled up a little."""
    rules, predicates = [], []
    shipped = shipped_rules()[:FUTURES]
    for at in range(count):
        rule, scale = shipped[at % FUTURES], 1 + (at // FUTURES) / 50
        first = FIRST_THRESHOLD[rule.rule_type]
        expression = rule.expression.replace(f" {first} ", f" {float(first) * scale!r} ", 1)
        rules.append(Rule(f"{rule.rule_type}_{at}", expression, rule.severity))
        predicates.append((BY_HAND[rule.rule_type], scale))
    return rules, predicates


def frames(symbols: int, volatility: float) -> list[MetricsBatch]:
    """Return consecutive closed minutes of a market: fat-tailed price changes that grow with the timeframe, and volumes
    in proportion to it, with noise. `volatility` 1 is a calm day, 5 a crash in which most rules have candidates."""
    rng = np.random.default_rng(symbols)
    size = np.exp(rng.normal(15, 2, symbols))
    batches = []
    for minute in range(FRAMES):
        values = rng.normal(size=(symbols, len(METRIC_COLUMNS)))
        walk = np.zeros(symbols)
        for timeframe, minutes in zip(TIMEFRAMES, (5, 15, 60, 480, 1440), strict=True):
            walk = walk + rng.standard_t(3, symbols) * 0.05 * volatility * minutes**0.5
            values[:, COLUMN_POSITION[f"price_change_{timeframe}"]] = walk
            noise = np.exp(rng.normal(0, 0.7, symbols))
            values[:, COLUMN_POSITION[f"quote_volume_{timeframe}"]] = size * minutes / 60 * noise
        batches.append(_batch(values, minute))
    return batches


def _batch(values: np.ndarray, minute: int) -> MetricsBatch:
    rows = len(values)
    opened = np.full(rows, minute * 60_000)
    return MetricsBatch(
        symbols=tuple(f"S{at}USDT" for at in range(rows)),
        symbol_index=np.arange(rows, dtype=np.int32),
        open_time_ms=opened,
        closed=np.ones(rows, np.bool_),
        event_ts_ms=opened + 60_000,
        ingest_ts_ms=opened + 60_010,
        values=values,
        columns=METRIC_COLUMNS,
    )


def by_row(batch: MetricsBatch, predicates: Sequence[tuple[Predicate, float]]) -> list[tuple[int, int]]:
    """Evaluate as a screener without vectors does: one row at a time, one predicate at a time."""
    taken = [COLUMN_POSITION[column] for column in SHORT_NAMES.values()]
    found = []
    for row, values in enumerate(batch.values[:, taken].tolist()):
        metrics = dict(zip(SHORT_NAMES, values, strict=True))
        found += [(row, at) for at, (predicate, scale) in enumerate(predicates) if predicate(metrics, scale)]
    return found


def _median_us(step: Callable[[MetricsBatch], object], batches: Sequence[MetricsBatch]) -> float:
    """Run the step once per frame, so that its values are as cold in the cache as those of a frame just decoded."""
    taken = []
    for batch in batches:
        began = time.process_time_ns()
        step(batch)
        taken.append((time.process_time_ns() - began) / 1000)
    return statistics.median(taken[len(taken) // 10 :])


def measure(symbols: int, count: int, volatility: float) -> str:
    batches = frames(symbols, volatility)
    rules, predicates = rule_set(count)
    book = RuleBook.compile(rules, "close")
    evaluator = Evaluator(book)
    matched = 0
    for batch in batches[:3]:
        found = evaluator.evaluate(batch)
        pairs = list(zip(found.row.tolist(), found.rule.tolist(), strict=True))
        if pairs != by_row(batch, predicates):
            raise SystemExit("the two evaluations differ: the figures would mean nothing")
        matched += len(found)
    vector_us = _median_us(evaluator.evaluate, batches)
    decided_us = _median_us(lambda batch: decide(evaluator.evaluate(batch), batch, book, {}), batches)
    row_us = _median_us(lambda batch: by_row(batch, predicates), batches[: 60 if count < 100 else 12])
    day = "crash" if volatility > 1 else "calm"
    return (
        f"| {count:5,} | {symbols:7,} | {day:5} | {matched / 3:13,.1f} | {vector_us:9,.0f} "
        f"| {decided_us:13,.0f} | {row_us:10,.0f} | {row_us / vector_us:6.1f} |"
    )


def measure_price_alerts(symbols: int) -> str:
    """Measure one rule per symbol, half of which are true; the baseline tries all rules on each row."""
    batches = frames(symbols, 1.0)
    price = COLUMN_POSITION["close_1m"]
    for batch in batches:
        batch.values[:, price] = np.exp(np.linspace(-5, 10, symbols))
    limits = (batches[0].values[:, price] * np.where(np.arange(symbols) % 2, 1.1, 0.9)).tolist()
    rules = [
        Rule(f"price_{at}", f"price > {limit!r}", "low", symbols=(f"S{at}USDT",))
        for at, limit in enumerate(limits)
    ]
    wanted = [(f"S{at}USDT", limit) for at, limit in enumerate(limits)]

    def by_hand(batch: MetricsBatch) -> list[tuple[int, int]]:
        found = []
        for row, value in enumerate(batch.values[:, price].tolist()):
            symbol = batch.symbol_of(row)
            found += [
                (row, at) for at, (name, limit) in enumerate(wanted) if name == symbol and value > limit
            ]
        return found

    evaluator = Evaluator(RuleBook.compile(rules, "close"))
    matches = evaluator.evaluate(batches[0])
    if list(zip(matches.row.tolist(), matches.rule.tolist(), strict=True)) != by_hand(batches[0]):
        raise SystemExit("the two evaluations differ: the figures would mean nothing")
    vector_us, row_us = _median_us(evaluator.evaluate, batches), _median_us(by_hand, batches[:12])
    return f"{len(rules)} price alerts of one symbol each: {vector_us:,.0f} µs, row by row {row_us:,.0f} µs"


def measure_crossings(symbols: int, count: int) -> str:
    """Measure rules that remember every symbol's minute before; the baseline uses a dictionary by rule and symbol."""
    batches = frames(symbols, 1.0)
    fast, slow = COLUMN_POSITION["price_change_5m"], COLUMN_POSITION["price_change_1h"]
    rules = [
        Rule(f"crossing_{at}", f"crosses_above(price_change_5m, price_change_1h + {at})", "low")
        for at in range(count)
    ]
    was: dict[tuple[int, int], float] = {}

    def by_hand(batch: MetricsBatch) -> list[tuple[int, int]]:
        found = []
        pairs = batch.values[:, [fast, slow]].tolist()
        for row, (left, right) in enumerate(pairs):
            for at in range(count):
                above = left - (right + at)
                if above > 0 and was.get((at, row), 1.0) <= 0:
                    found.append((row, at))
                was[at, row] = above
        return found

    evaluator = Evaluator(RuleBook.compile(rules, "close"))
    for batch in batches[:3]:
        matches = evaluator.evaluate(batch)
        if list(zip(matches.row.tolist(), matches.rule.tolist(), strict=True)) != by_hand(batch):
            raise SystemExit("the two evaluations differ: the figures would mean nothing")
    vector_us, row_us = _median_us(evaluator.evaluate, batches[3:]), _median_us(by_hand, batches[3:12])
    return f"{count} crossings on {symbols} symbols: {vector_us:,.0f} µs, row by row {row_us:,.0f} µs"


LOOKS = (
    "close_1m", "high_1m", "low_1m", "quote_volume_1m", "price_change_5m", "volume_ratio_15m", "rsi_14_15m",
    "vwap_day",
)  # fmt: skip
WINDOWS = {
    "highest": "{x} > 1.5 * highest({x}, {d})",
    "lowest": "{x} < 0.1 * lowest({x}, {d})",
    "average": "{x} > 5 * average({x}, {d})",
    "stdev": "{x} > 9 * stdev({x}, {d})",
    "zscore": "zscore({x}, {d}) > 6",
    "ago": "{x} > 900 * ago({x}, {d})",
    "count": "count({x} > 3, {d}) > 50",
}
DURATIONS = ("5m", "15m", "30m", "1h", "2h", "4h", "8h", "1d")


def over_time_rules(count: int) -> list[Rule]:
    """Return rules of seven functions of eight metrics over eight durations, repeated with another clause; hardly any
    is true."""
    texts = [
        text.format(x=name, d=duration)
        for text in WINDOWS.values()
        for name in LOOKS
        for duration in DURATIONS
    ]
    return [
        Rule(f"over_time_{at}", f"{texts[at % len(texts)]} and price_change_1h > {at / count}", "low")
        for at in range(count)
    ]


def measure_over_time(symbols: int, count: int) -> str:
    """Measure rules with functions over time, after 25 hours of minutes: closed and forming frames, and memory."""
    book = RuleBook.compile(over_time_rules(count), "live")
    evaluator, batches = Evaluator(book), frames(symbols, 1.0)
    for batch in batches:
        np.abs(batch.values, out=batch.values)

    def later(hours: int) -> list[MetricsBatch]:
        return [
            replace(batch, open_time_ms=batch.open_time_ms + hours * FRAMES * 60_000) for batch in batches
        ]

    for hour in range(25):
        for batch in later(hour):
            evaluator.evaluate(batch)
    closed_us = _median_us(evaluator.evaluate, later(25))
    opened = later(26)[0].open_time_ms
    forming = [replace(batch, open_time_ms=opened, closed=~batch.closed) for batch in batches]
    forming_us = _median_us(evaluator.evaluate, forming)
    windows = sum(len(slot.outs) for slot in book.slots)
    memory_kb = evaluator.time_memory_bytes() / symbols / 1024
    return (
        f"{count} rules over time ({windows} windows of {len(book.slots)} values) on {symbols} symbols: "
        f"{closed_us:,.0f} µs a closed frame, {forming_us:,.0f} µs a forming one; {memory_kb:,.0f} KB a symbol"
    )


def main() -> None:
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, one core")
    print(f"median of {FRAMES} frames, µs of CPU time a frame\n")
    print("| rules | symbols | day   | matches/frame | compiled  | with cooldown | row by row | ratio  |")
    print("|------:|--------:|-------|--------------:|----------:|--------------:|-----------:|-------:|")
    for count in (10, 500):
        for symbols in (1, 100, 500, 2000):
            for volatility in (1.0, 5.0):
                print(measure(symbols, count, volatility), flush=True)
    print(f"\n{measure_price_alerts(500)}")
    print(measure_crossings(500, 500))
    print(measure_over_time(500, 500))
    began = time.process_time()
    RuleBook.compile(rule_set(500)[0], "close")
    print(f"reading and compiling 500 new rules: {(time.process_time() - began) * 1000:,.0f} ms")


if __name__ == "__main__":
    main()
