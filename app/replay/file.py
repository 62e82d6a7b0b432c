"""Candle files: parquet or CSV with the columns symbol, open_time_ms, open, high, low, close, volume,
quote_volume, trades (and optionally taker_buy_volume, taker_buy_quote_volume, exchange)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from app.candles.batch import MINUTE_MS, CandleBatch, FloatArray, IntArray
from app.errors import BadInput

_REQUIRED = ("symbol", "open_time_ms", "open", "high", "low", "close", "volume")


def read_candles(path: Path) -> CandleBatch:
    """All candles of a file, closed, in order of time, then as they stand. Raises BadInput with what is wrong."""
    try:
        read = pyarrow.csv.read_csv if path.suffix.lower() == ".csv" else pyarrow.parquet.read_table
        table = read(path)
    except (OSError, pa.ArrowException) as error:
        raise BadInput("file_unreadable", f"{path} is not a readable parquet or CSV file: {error}") from error
    missing = [name for name in _REQUIRED if name not in table.column_names]
    if missing:
        raise BadInput("file_columns", f"{path} lacks the columns {', '.join(missing)}")
    try:
        return _batch(table)
    except (pa.ArrowException, ValueError) as error:
        raise BadInput("file_columns", f"{path} has a column that does not fit: {error}") from error


def _batch(table: pa.Table) -> CandleBatch:
    holes = [name for name in ("symbol", "open_time_ms") if table.column(name).null_count]
    if holes:
        raise ValueError(f"nothing in some rows of {', '.join(holes)}")
    table = table.take(pc.sort_indices(table, sort_keys=[("open_time_ms", "ascending")]))
    symbol = table.column("symbol").cast(pa.string()).combine_chunks().dictionary_encode()
    open_time_ms: IntArray = table.column("open_time_ms").cast(pa.int64()).to_numpy()
    high, low, close, volume = (_floats(table, name) for name in ("high", "low", "close", "volume"))
    quote_volume = _floats(table, "quote_volume")
    estimated = np.isnan(quote_volume)
    rows = len(open_time_ms)
    return CandleBatch(
        symbols=tuple(symbol.dictionary.to_pylist()),
        symbol_index=symbol.indices.to_numpy(zero_copy_only=False).astype(np.int32),
        open_time_ms=open_time_ms,
        open=_floats(table, "open"),
        high=high,
        low=low,
        close=close,
        volume=volume,
        quote_volume=np.where(estimated, volume * (high + low + close) / 3, quote_volume),
        trades=np.nan_to_num(_floats(table, "trades")).astype(np.int64),
        taker_buy_volume=_floats(table, "taker_buy_volume"),
        taker_buy_quote_volume=_floats(table, "taker_buy_quote_volume"),
        quote_estimated=estimated,
        closed=np.ones(rows, dtype=np.bool_),
        event_ts_ms=open_time_ms + MINUTE_MS,
        ingest_ts_ms=np.zeros(rows, dtype=np.int64),
        exchange=_exchange(table),
    )


def _exchange(table: pa.Table) -> str:
    """That of all rows; binance if the file does not say."""
    found = (
        set(map(str, table.column("exchange").unique().to_pylist()))
        if "exchange" in table.column_names
        else set()
    )
    if len(found) > 1:
        raise ValueError(f"more than one exchange: {', '.join(sorted(found))}")
    return found.pop() if found else "binance"


def _floats(table: pa.Table, name: str) -> FloatArray:
    """float64; NaN where the file has null or lacks the column."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return np.array(table.column(name).cast(pa.float64()).to_numpy(), dtype=np.float64)


def by_minutes(candles: CandleBatch, rows_at_least: int) -> Iterator[CandleBatch]:
    """The candles in order of time, in parts of whole minutes: the fewest that reach `rows_at_least` rows."""
    begin = 0
    for start in (np.flatnonzero(np.diff(candles.open_time_ms)) + 1).tolist():
        if start - begin >= rows_at_least:
            yield candles.take(slice(begin, start))
            begin = start
    if begin < len(candles):
        yield candles.take(slice(begin, len(candles)))
