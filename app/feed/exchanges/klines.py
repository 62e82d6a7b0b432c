"""Klines of an exchange: requesting a page of them, parsing it into candles, and leaving out unusable bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import structlog

from app.candles.batch import MINUTE_MS, CandleBatch, FloatArray, IntArray
from app.candles.validity import valid_rows
from app.feed.exchanges.answers import reading_answer
from app.feed.exchanges.exchange import Get, Venue
from app.market.timeframes import TIMEFRAMES

log = structlog.get_logger("feed")


def floats(values: Iterable[str | float]) -> FloatArray:
    """Parse numbers. Raises ValueError or TypeError for any other value."""
    return np.array([*map(float, values)], dtype=np.float64)


def integers(values: Iterable[int | str]) -> IntArray:
    """Parse whole numbers. Raises ValueError or TypeError for any other value."""
    return np.array([*map(int, values)], dtype=np.int64)


def closed_bars(
    symbol: str,
    rows: Sequence[Sequence[str | int]],
    *,
    exchange: str,
    interval_minutes: int,
    trades_at: int | None = None,
    quote_volume_at: int,
    taker_at: int | None = None,
) -> CandleBatch | None:
    """Parse REST klines of one symbol, oldest first: rows of open time, open, high, low, close, volume and more.

    *_at: position in a row, None where the exchange does not give it (no trades: 0, no taker volumes: null).
    The event time of a bar is its end. None without rows.
    """
    if not rows:
        return None
    columns = list(zip(*rows, strict=True))
    count = len(rows)
    open_time_ms = integers(columns[0])
    end_ms = open_time_ms + interval_minutes * MINUTE_MS
    unknown = np.full(count, np.nan)
    return CandleBatch(
        symbols=(symbol,),
        symbol_index=np.zeros(count, dtype=np.int32),
        open_time_ms=open_time_ms,
        open=floats(columns[1]),
        high=floats(columns[2]),
        low=floats(columns[3]),
        close=floats(columns[4]),
        volume=floats(columns[5]),
        quote_volume=floats(columns[quote_volume_at]),
        trades=np.zeros(count, dtype=np.int64) if trades_at is None else integers(columns[trades_at]),
        taker_buy_volume=unknown if taker_at is None else floats(columns[taker_at]),
        taker_buy_quote_volume=unknown if taker_at is None else floats(columns[taker_at + 1]),
        quote_estimated=np.zeros(count, dtype=np.bool_),
        closed=np.ones(count, dtype=np.bool_),
        event_ts_ms=end_ms,
        ingest_ts_ms=end_ms,
        exchange=exchange,
    )


async def klines_page(
    venue: Venue, get: Get, symbol: str, timeframe: str, first_ms: int, last_ms: int, now_ms: int
) -> CandleBatch | None:
    """Return the bars of `Venue.klines` without bars outside of the request, bars that still form (they end after
    `now_ms`, the exchange's time), and invalid bars; None without bars.

    Raises ExchangeError, also for an answer that breaks the protocol."""
    with reading_answer(venue, f"klines of {symbol}"):
        bars = await venue.klines(get, symbol, timeframe, first_ms, last_ms)
    if bars is None:
        return None
    last_ms = min(last_ms, now_ms - TIMEFRAMES[timeframe] * MINUTE_MS)
    inside = (bars.open_time_ms >= first_ms) & (bars.open_time_ms <= last_ms)
    kept = bars if inside.all() else bars.take(inside)
    # a later stage would reject an invalid candle, but its minute would count as published
    valid, refused = valid_rows(kept, now_ms)
    if refused:
        log.warning(
            "klines_invalid",
            symbol=symbol,
            timeframe=timeframe,
            bars=refused.total(),
            reasons=[str(reason) for reason in refused],
        )
    return valid if len(valid) else None
