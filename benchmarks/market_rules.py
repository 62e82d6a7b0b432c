"""Rules over the whole market: many expressions evaluated on a sealed minute of many symbols.

`python -m benchmarks.market_rules`. The market stage does this once a minute, for all symbols at once. It measures the
sealing of a minute whose frames come shard by shard, the evaluation with its memory (for `prev`, and the returns of a
day for `corr` and `beta`), and the size of that memory.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from app.candles.batch import MINUTE_MS
from app.market.fields import METRIC_COLUMNS
from app.market.metrics import MetricsBatch
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.market.sealing import Sealing
from app.rules.rule import Rule

START_MS = 28_000_000 * MINUTE_MS
SHARDS = 4
WARM_MINUTES = 1_445
MEASURED_MINUTES = 30
COLUMNS = ("price_change_5m", "price_change_15m", "price_change_1h", "volume_5m", "volume_1h", "rsi_14_15m")


def expressions(count: int, longest: str) -> list[str]:
    """Return expressions with every function; corr and beta with five windows, the longest being `longest`."""
    found = [f"corr(S0USDT, {window}) < -0.99" for window in ("15m", "30m", "1h", "4h", longest)]
    found += [f"beta(S0USDT, {window}) > 99" for window in ("15m", "1h")]
    forms = (
        "rank({0}) <= {1} and {0} > 99",
        "pct_rank({0}) > 0.9{1} and {0} > 99",
        "{0} > mean({0}) + {1} and {0} > 99",
        "{0} > median({0}) + {1} and {0} > 99",
        "share({0} > {1}) > 0.99",
        "{0} - of(S1USDT, {0}) > 99 + {1}",
        "rank({0}) == 1 and prev(rank({0})) > {1}",
    )
    number = 0
    while len(found) < count:
        found.append(forms[number % len(forms)].format(COLUMNS[number % len(COLUMNS)], number % 9 + 1))
        number += 1
    return found


def minute(random: np.random.Generator, at: int, symbols: tuple[str, ...]) -> MetricsBatch:
    rows = len(symbols)
    opened = np.full(rows, START_MS + at * MINUTE_MS, np.int64)
    return MetricsBatch(
        symbols=symbols,
        symbol_index=np.arange(rows, dtype=np.int32),
        open_time_ms=opened,
        closed=np.ones(rows, np.bool_),
        event_ts_ms=opened + MINUTE_MS,
        ingest_ts_ms=opened + MINUTE_MS,
        values=random.normal(size=(rows, len(METRIC_COLUMNS))),
        columns=METRIC_COLUMNS,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--symbols", type=int, default=2_000)
    options.add_argument("--expressions", type=int, default=50)
    options.add_argument("--longest", default="1d", help="of corr and beta")
    chosen = options.parse_args()
    symbols = tuple(f"S{number}USDT" for number in range(chosen.symbols))
    rules = [
        Rule(f"r{number}", text, "info")
        for number, text in enumerate(expressions(chosen.expressions, chosen.longest))
    ]
    evaluator, sealing = Evaluator(RuleBook.compile(rules, "close")), Sealing(SHARDS, 3_000)
    random = np.random.default_rng(1)
    seal_ms: list[float] = []
    evaluate_ms: list[float] = []
    for at in range(WARM_MINUTES + MEASURED_MINUTES):
        whole = minute(random, at, symbols)
        parts = [whole.take(np.arange(shard, len(symbols), SHARDS)) for shard in range(SHARDS)]
        began_s = time.process_time()
        for shard, part in enumerate(parts):
            sealing.take(shard, at, part)
        sealed = []
        while fences := sealing.fences():
            for shard, fence in fences.items():
                sealing.passed(shard, fence)
            sealed += sealing.sealed()
        middle_s = time.process_time()
        for one in sealed:
            evaluator.evaluate(one.rows)
        if at >= WARM_MINUTES:
            assert [one.open_time_ms for one in sealed] == [START_MS + at * MINUTE_MS], (
                "the minute was not sealed"
            )
            seal_ms.append((middle_s - began_s) * 1e3)
            evaluate_ms.append((time.process_time() - middle_s) * 1e3)
    packed_mb = len(evaluator.snapshot()) / 1e6
    print(f"{chosen.symbols:,} symbols, {len(rules)} expressions, corr and beta up to {chosen.longest}")
    for name, found in (("sealing", seal_ms), ("evaluation", evaluate_ms)):
        median, worst = np.median(found), max(found)
        print(f"{name:>12}: {median:6.1f} ms of CPU a minute, median of {len(found)}; worst {worst:.1f}")
    print(f"      memory: {packed_mb:.1f} MB of rules; a pending minute {whole.values.nbytes / 1e6:.1f} MB")
    assert not evaluator.faults, evaluator.faults


if __name__ == "__main__":
    main()
