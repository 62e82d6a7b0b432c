"""Candles of any number and order, given back in order of time; only a part of them is in memory at once.

Few are kept in memory. More go to a temporary folder, in one file for six hours of all symbols, and are
sorted file by file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import DTYPES, MINUTE_MS, CandleBatch, concatenate

MEMORY_ROWS: Final = 1_000_000
"""About 130 MB."""
_SPAN_MS: Final = 6 * 60 * MINUTE_MS
_DERIVED: Final = ("closed", "event_ts_ms", "ingest_ts_ms")
_RECORD: Final = np.dtype([(name, dtype) for name, dtype in DTYPES.items() if name not in _DERIVED])


class TimeOrder:
    """Candles that are added in any order; `spans` yields them in order of time, those of one minute as they were
    added.

    Their `symbol_index` is into the symbols that `spans` is given. `close` removes the temporary folder.
    """

    def __init__(self, memory_rows: int = MEMORY_ROWS) -> None:
        self._memory_rows = memory_rows
        self._recent: list[CandleBatch] = []
        self._recent_rows = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._spans: set[int] = set()

    def add(self, batch: CandleBatch) -> None:
        self._recent.append(batch)
        self._recent_rows += len(batch)
        if self._recent_rows > self._memory_rows:
            self._spill()

    def spans(self, symbols: tuple[str, ...], exchange: str) -> Iterator[CandleBatch]:
        """Yield all candles in batches of whole minutes, as often as asked."""
        if self._folder is None:
            if self._recent:
                whole = concatenate([_named(batch, symbols, exchange) for batch in self._recent])
                whole = _named(whole, symbols, exchange)
                self._recent = [whole.take(np.argsort(whole.open_time_ms, kind="stable"))]
                yield self._recent[0]
            return
        self._spill()
        for span in sorted(self._spans):
            records = np.fromfile(self._path(span), _RECORD)
            records = records[np.argsort(records["open_time_ms"], kind="stable")]
            yield _batch(records, symbols, exchange)

    def close(self) -> None:
        self._recent = []
        if self._folder is not None:
            self._folder.cleanup()

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="screener-candles-")
        for batch in self._recent:
            order = np.argsort(batch.open_time_ms, kind="stable")
            records = _records(batch)[order]
            spans = records["open_time_ms"] // _SPAN_MS
            starts = np.flatnonzero(np.diff(spans, prepend=-1))
            for rows in np.split(records, starts[1:]) if len(records) else ():
                span = int(rows["open_time_ms"][0] // _SPAN_MS)
                self._spans.add(span)
                with self._path(span).open("ab") as file:
                    rows.tofile(file)
        self._recent, self._recent_rows = [], 0

    def _path(self, span: int) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / str(span)


def _records(batch: CandleBatch) -> NDArray[np.void]:
    records = np.empty(len(batch), _RECORD)
    for name in _RECORD.names or ():
        records[name] = getattr(batch, name)
    return records


def _batch(records: NDArray[np.void], symbols: tuple[str, ...], exchange: str) -> CandleBatch:
    given = {name: np.ascontiguousarray(records[name]) for name in _RECORD.names or ()}
    return CandleBatch(
        symbols=symbols,
        exchange=exchange,
        closed=np.ones(len(records), np.bool_),
        event_ts_ms=given["open_time_ms"] + MINUTE_MS,
        ingest_ts_ms=np.zeros(len(records), np.int64),
        **given,
    )


def _named(batch: CandleBatch, symbols: tuple[str, ...], exchange: str) -> CandleBatch:
    if batch.symbols is symbols and batch.exchange == exchange:
        return batch
    columns = {name: getattr(batch, name) for name in DTYPES}
    return CandleBatch(symbols=symbols, exchange=exchange, **columns)
