"""Rules that look at all symbols, over history: a minute is whole when all candles of it have been given."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from app.market.metrics import MetricsBatch
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.matches import Matches
from app.rules.evaluation.rulebook import RuleBook
from app.rules.market.sealing import one_row_each


class MarketRules:
    """Feed it the metrics in order of time, no minute in two batches; a minute that comes again is left out."""

    def __init__(self, book: RuleBook) -> None:
        """book: of rules that look at all symbols."""
        self.evaluator = Evaluator(book)
        self._newest_ms = -1

    def take(self, metrics: MetricsBatch) -> Iterator[tuple[MetricsBatch, Matches]]:
        """Yield each closed minute, one row per symbol, with its matches."""
        if not self.evaluator.book.rules:
            return
        closed = np.flatnonzero(metrics.closed & (metrics.open_time_ms > self._newest_ms))
        minutes = metrics.open_time_ms[closed]
        for minute in np.unique(minutes).tolist():
            rows = one_row_each([metrics.take(closed[minutes == minute])])
            self._newest_ms = minute
            yield rows, self.evaluator.evaluate(rows)
