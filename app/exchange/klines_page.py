"""One request for klines, with what the exchange answers checked against what was asked."""

from __future__ import annotations

from app.candles.batch import CandleBatch
from app.exchange.answers import reading_answer
from app.exchange.venue import Get, Venue


async def klines_page(
    venue: Venue, get: Get, symbol: str, timeframe: str, first_ms: int, last_ms: int
) -> CandleBatch | None:
    """`Venue.klines`, without bars outside of what was asked for; None if there is none.

    Raises ExchangeError, also for an answer that is not what the protocol says."""
    with reading_answer(venue, f"klines of {symbol}"):
        bars = await venue.klines(get, symbol, timeframe, first_ms, last_ms)
    if bars is None:
        return None
    inside = (bars.open_time_ms >= first_ms) & (bars.open_time_ms <= last_ms)
    kept = bars if inside.all() else bars.take(inside)
    return kept if len(kept) else None
