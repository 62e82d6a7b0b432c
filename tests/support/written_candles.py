"""Candle files as exchanges and other programs write them."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.feather

from app.candles.batch import MINUTE_MS, CandleBatch

START_MS = 1_704_067_200_000
"""2024-01-01 00:00 UTC."""
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)


def kline(minute: int, *, per_ms: int = 1, volume: str = "10.5") -> str:
    """A line of an exchange archive."""
    open_ms = START_MS + minute * MINUTE_MS
    close = (open_ms + MINUTE_MS) * per_ms - 1
    price = 100 + minute
    return (
        f"{open_ms * per_ms},{price},{price + 2},{price - 1},{price + 1},{volume},{close},1050,7,4.5,450.25,0"
    )


def archive(lines: list[str], *, header: bool = False) -> bytes:
    return "\n".join([HEADER, *lines] if header else lines).encode() + b"\n"


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def minutes_of(candles: CandleBatch) -> list[tuple[str, int]]:
    return [
        (candles.symbols[at], (time - START_MS) // MINUTE_MS)
        for at, time in zip(candles.symbol_index.tolist(), candles.open_time_ms.tolist(), strict=True)
    ]


def assert_is_the_archive(candles: CandleBatch, symbol: str = "BTCUSDT", rows: int = 5) -> None:
    assert minutes_of(candles) == [(symbol, minute) for minute in range(rows)]
    assert candles.open.tolist() == [100.0 + minute for minute in range(rows)]
    assert candles.close.tolist() == [101.0 + minute for minute in range(rows)]
    assert candles.volume.tolist() == [10.5] * rows


def ohlcv(rows: int = 5) -> list[list[float]]:
    return [[START_MS + at * MINUTE_MS, 100 + at, 102 + at, 99 + at, 101 + at, 10.5] for at in range(rows)]


def freqtrade_feather(path: Path) -> None:
    columns = list(zip(*ohlcv(), strict=True))
    names = ("open", "high", "low", "close", "volume")
    dates = pa.array(columns[0], pa.int64()).cast(pa.timestamp("ms", "UTC"))
    prices = {name: pa.array(values, pa.float64()) for name, values in zip(names, columns[1:], strict=True)}
    pyarrow.feather.write_feather(pa.table({"date": dates, **prices}), path, compression="lz4")


def written_json(path: Path) -> None:
    text = json.dumps(ohlcv()).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
