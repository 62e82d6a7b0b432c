"""Compile all kernels, so that no candle waits for it: `python -m app.rules.ahead`, or at a start."""

from __future__ import annotations

import numpy as np

from app.candles.batch import MINUTE_MS
from app.compiled import mark_complete
from app.market.ahead import call_market_kernels
from app.market.fields import METRIC_COLUMNS
from app.market.metrics import MetricsBatch
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule


def compile_ahead() -> None:
    """Load each kernel's machine code from the disk, or compile it, which takes seconds the first time."""
    call_market_kernels()
    call_rule_kernels()
    mark_complete()


def call_rule_kernels() -> None:
    """As `compile_ahead`, for a process that evaluates rules and computes no metrics."""
    time = np.full(1, MINUTE_MS)
    row = MetricsBatch(
        symbols=("",),
        symbol_index=np.zeros(1, np.int32),
        open_time_ms=time,
        closed=np.ones(1, np.bool_),
        event_ts_ms=time,
        ingest_ts_ms=time,
        values=np.ones((1, len(METRIC_COLUMNS))),
        columns=METRIC_COLUMNS,
    )
    rules = [Rule("any", "price > 0", "low"), Rule("before", "price > prev(price)", "low")]
    Evaluator(RuleBook.compile(rules, "close")).evaluate(row)


if __name__ == "__main__":
    compile_ahead()
