"""Candles of the simulated exchange's markets as batches."""

from __future__ import annotations

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch
from app.local.exchange.market.market import Market
from app.local.exchange.market.planes import Planes

DAY_MINUTES = 1440


def batch_of_day(market: Market, day: int, symbols: int) -> CandleBatch:
    """Return a day's closed candles of the first `symbols` contracts (at most 128), in order of time."""
    return batch_of_planes(market, market.day(day, 0)[:, :symbols], day * DAY_MINUTES)


def batch_of_planes(market: Market, planes: Planes, first_minute: int) -> CandleBatch:
    minutes, symbols = planes.open.shape
    contracts = market.contracts[:symbols]
    per_unit = np.array([10.0**contract.price_decimals for contract in contracts])
    opened, high, low, close = (
        (ticks / per_unit).ravel() for ticks in (planes.open, planes.high, planes.low, planes.close)
    )
    open_time_ms = np.repeat(np.arange(first_minute, first_minute + minutes) * MINUTE_MS, symbols)
    rows = minutes * symbols
    return CandleBatch(
        symbols=tuple(contract.symbol for contract in contracts),
        symbol_index=np.tile(np.arange(symbols, dtype=np.int32), minutes),
        open_time_ms=open_time_ms,
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=planes.volume.ravel(),
        quote_volume=planes.quote_volume.ravel(),
        trades=planes.trades.ravel(),
        taker_buy_volume=planes.taker_volume.ravel(),
        taker_buy_quote_volume=planes.taker_quote_volume.ravel(),
        quote_estimated=np.zeros(rows, dtype=np.bool_),
        closed=np.ones(rows, dtype=np.bool_),
        event_ts_ms=open_time_ms + MINUTE_MS,
        ingest_ts_ms=open_time_ms + MINUTE_MS,
    )
