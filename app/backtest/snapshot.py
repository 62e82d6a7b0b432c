"""The market at one minute of history, as a screener query sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from app.backtest.backtest import valid_history
from app.candles.batch import CandleBatch
from app.candles.known_minutes import KnownMinutes
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch


def market_at_the_end(
    history: Iterable[CandleBatch],
    columns: Sequence[str],
    see: Callable[[MetricsBatch], None] = lambda _: None,
) -> MetricsBatch | None:
    """Return the metrics of every symbol that has a candle in the last minute of `history`; None without a candle.

    history: in order of time, no minute in two batches, beginning early enough for whole windows.
    see: takes the rows of all minutes.
    """
    known, matrix = KnownMinutes(), MarketMatrix(columns=columns)
    found = None
    for candles in history:
        metrics = matrix.update(known.accept(valid_history(candles)[0]).batch)
        if len(metrics):
            see(metrics)
            found = metrics.take(metrics.open_time_ms == metrics.open_time_ms.max())
    return None if found is None else _one_row_each(found)


def _one_row_each(market: MetricsBatch) -> MetricsBatch:
    """Return one row per symbol. A candle that a file repeats with other values gives two rows: the later counts."""
    _, last = np.unique(market.symbol_index[::-1], return_index=True)
    return market.take(np.sort(len(market) - 1 - last))
