"""A parquet file of candles that is complete at any moment: each flush writes a new file, then replaces the old one.

A parquet file is readable only with the index at its end, so a file that grew in place would be lost with its writer. A
file has at most `rows_per_file` rows, which bounds the cost of a flush; after that the next one begins.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from app.candles.batch import CandleBatch, concatenate

ROWS_PER_FILE: Final = 2_000_000


class CandleFile:
    """Candles and their file. The last candle of each symbol and minute counts; rows are in order of time, then symbol.

    Rows stay in memory until their file is full. `path`: the file written now; the first is the one given,
    later files have a number before the suffix.
    """

    def __init__(
        self, path: Path, *, rows_per_file: int = ROWS_PER_FILE, known: CandleBatch | None = None
    ) -> None:
        """known: candles that the file has already and keeps; without them, the file at `path` is replaced."""
        self._first = path
        self._rows_per_file = rows_per_file
        self._number = 1
        self._batches = [] if known is None or not len(known) else [known]
        self._written = len(self._batches)
        """How many of the batches, from the first on, are in the file."""
        self._kept = 0 if known is None else len(known)
        self._flushing = threading.Lock()

    @property
    def path(self) -> Path:
        if self._number == 1:
            return self._first
        return self._first.with_stem(f"{self._first.stem}-{self._number}")

    @property
    def rows(self) -> int:
        """Candles in the file written now, as of the last flush."""
        return self._kept

    def add(self, batch: CandleBatch) -> None:
        """Add closed candles; nothing reaches the disk before `flush`."""
        if len(batch):
            self._batches.append(batch)

    def flush(self) -> bool:
        """Replace the file by one with all candles so far; return False if there is nothing new.

        May take a second: other threads may `add` and `flush` meanwhile.
        """
        with self._flushing:
            batches = len(self._batches)
            if batches == self._written:
                return False
            whole = _last_of_each(concatenate(self._batches[:batches]))
            self._write(whole)
            full = len(whole) >= self._rows_per_file
            kept = [] if full else [whole]
            self._batches[:batches] = kept
            self._written = len(kept)
            self._kept = sum(map(len, kept))
            if full:
                self._next_file()
            return True

    def _next_file(self) -> None:
        self._number += 1
        while self.path.exists():
            self._number += 1

    def _write(self, candles: CandleBatch) -> None:
        beside = self.path.with_name(f".{self.path.name}.part")
        with beside.open("wb") as file:
            pyarrow.parquet.write_table(table_of(candles), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)


def table_of(candles: CandleBatch) -> pa.Table:
    """Return the columns that `app.candle_files.reader` reads; null where the source had no value."""
    floats = {
        name: pa.array(getattr(candles, name), from_pandas=True)
        for name in ("open", "high", "low", "close", "volume")
    }
    quote_volume = pa.array(candles.quote_volume, mask=candles.quote_estimated)
    taker = {
        name: pa.array(getattr(candles, name), from_pandas=True)
        for name in ("taker_buy_volume", "taker_buy_quote_volume")
    }
    symbol = pa.DictionaryArray.from_arrays(candles.symbol_index, list(candles.symbols))
    return pa.table(
        {
            "symbol": symbol,
            "open_time_ms": candles.open_time_ms,
            **floats,
            "quote_volume": quote_volume,
            "trades": candles.trades,
            **taker,
            "exchange": pa.DictionaryArray.from_arrays(np.zeros(len(candles), np.int32), [candles.exchange]),
        }
    )


def _last_of_each(candles: CandleBatch) -> CandleBatch:
    """Return the last row of each symbol and minute, in order of time, then of the symbol's name."""
    rank = np.argsort(np.argsort(np.array(candles.symbols)))[candles.symbol_index]
    # lexsort is stable: of rows with one symbol and minute, the last to arrive stands last
    order = np.lexsort((rank, candles.open_time_ms))
    time_ms, rank = candles.open_time_ms[order], rank[order]
    last = np.append((time_ms[1:] != time_ms[:-1]) | (rank[1:] != rank[:-1]), True)
    return candles.take(order[last])
