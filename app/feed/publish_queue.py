"""Candles on their way to NATS: bounded, for the time that NATS accepts nothing.

At the bound a forming candle is dropped if there is a newer one of its symbol, which replaces it. If the closed
candles alone are too many, after hours, the oldest are dropped; they are owed until they are published, and come
again over REST.
"""

from __future__ import annotations

import asyncio
from typing import Final

import numpy as np

from app.candles.batch import CandleBatch, concatenate
from app.telemetry import FeedMetrics

MOST_ROWS: Final = 100_000
"""Some 12 MB."""


def thinned(batch: CandleBatch, most_rows: int) -> CandleBatch:
    """Return the closed candles and the last forming one of each symbol, in order; the newest `most_rows` of them."""
    keep = batch.closed.copy()
    forming = np.flatnonzero(~batch.closed)
    # of rows with the same symbol the last assignment wins
    last = np.full(len(batch.symbols), -1, dtype=np.int64)
    last[batch.symbol_index[forming]] = forming
    keep[last[last >= 0]] = True
    rows = np.flatnonzero(keep)[-most_rows:]
    return batch.take(rows)


class PublishQueue:
    def __init__(self, metrics: FeedMetrics, most_rows: int = MOST_ROWS) -> None:
        self._metrics = metrics
        self._most_rows = most_rows
        self._batches: list[CandleBatch] = []
        self._rows = 0
        self._arrived = asyncio.Event()

    @property
    def rows(self) -> int:
        return self._rows

    def add(self, batch: CandleBatch) -> None:
        self._batches.append(batch)
        self._rows += len(batch)
        if self._rows > self._most_rows:
            # room for as much again, or every further batch would do this
            kept = thinned(concatenate(self._batches), self._most_rows // 2)
            self._metrics.dropped.inc(self._rows - len(kept))
            self._batches, self._rows = [kept], len(kept)
        self._arrived.set()

    async def take(self) -> CandleBatch:
        """Wait for candles, then return all of them, in order."""
        await self._arrived.wait()
        self._arrived.clear()
        batches, self._batches, self._rows = self._batches, [], 0
        return batches[0] if len(batches) == 1 else concatenate(batches)
