"""Call every kernel of the market once: the first call loads or compiles it."""

from __future__ import annotations

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch
from app.market.comovement import MinuteReturns
from app.market.matrix import MarketMatrix
from app.market.tracks.recursions import Moves, Recursion
from app.market.tracks.track import Shape, Track
from app.market.tracks.windows import Over


def call_market_kernels() -> None:
    matrix = MarketMatrix()
    matrix.restore_minutes(_candles(0, 1, closed=True))
    matrix.warm_up_bars("1h", _candles(0, 60, closed=True))
    matrix.update(_candles(1, 1, closed=True))
    matrix.update(_candles(9, 1, closed=False))
    _compile_tracks()
    MinuteReturns(1).comovement("", 0, 1, ("",))


def _compile_tracks() -> None:
    times, symbols, kept = np.zeros(1, np.int64), np.zeros(1, np.intp), np.ones(1, np.bool_)
    wanted = [(Over.AVERAGE, 2)]
    Track(wanted, Shape.of(wanted), 1).follow(times, symbols, kept, np.ones(1))
    Recursion(Moves.EMA, (2,), 1, 1).follow(times, symbols, kept, np.ones((3, 1)))


def _candles(first: int, minutes: int, closed: bool) -> CandleBatch:
    """Return minutes of one symbol."""
    times, ones = (first + np.arange(minutes)) * MINUTE_MS, np.ones(minutes)
    return CandleBatch(
        symbols=("",),
        symbol_index=np.zeros(minutes, np.int32),
        open_time_ms=times,
        open=ones,
        high=ones,
        low=ones,
        close=ones,
        volume=ones,
        quote_volume=ones,
        trades=np.ones(minutes, np.int64),
        taker_buy_volume=ones,
        taker_buy_quote_volume=ones,
        quote_estimated=np.zeros(minutes, np.bool_),
        closed=np.full(minutes, closed),
        event_ts_ms=times,
        ingest_ts_ms=times,
    )
