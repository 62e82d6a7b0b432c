"""A candle file as a market: its candles at their own times, or all moved to another."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch, FloatArray, IntArray
from app.local.exchange.market.market import BLOCK, DAY_MINUTES, Contract
from app.local.exchange.market.planes import Planes

_MOST_DECIMALS: Final = 8
_LARGEST_TICKS: Final = 2_000_000_000
_LARGEST_LOTS: Final = 2**52
_HISTORY_MINUTES: Final = DAY_MINUTES
"""Minutes of the file that are history when the exchange opens; at most half of the file."""
_TAKER_SHARE: Final = 0.5
"""For candles whose taker volume the file does not give."""


class FileMarket:
    """The market of a candle file. `start_ms`: UTC ms at which the exchange should open, so that a day of the file is
    history by then.

    Of a repeated candle the last one counts; a minute without a candle in the file has none here either.
    """

    def __init__(self, candles: CandleBatch, seed: int, *, begins_ms: int | None) -> None:
        """begins_ms: moves the candles, by whole minutes, so that the exchange opens then; None: their own time.

        Raises ValueError for a file without candles.
        """
        if not len(candles):
            raise ValueError("a market needs at least one candle")
        self.seed = seed
        self._candles = candles
        minutes = candles.open_time_ms // MINUTE_MS
        own_first, own_last = int(minutes.min()), int(minutes.max())
        opens = own_first + min(_HISTORY_MINUTES, (own_last - own_first) // 2)
        shift = 0 if begins_ms is None else begins_ms // MINUTE_MS - opens
        self.start_ms = opens * MINUTE_MS if begins_ms is None else begins_ms
        self._first, self._last = own_first + shift, own_last + shift
        self.contracts = _contracts(candles)
        self._taker_volume = np.where(
            np.isnan(candles.taker_buy_volume), candles.volume * _TAKER_SHARE, candles.taker_buy_volume
        )
        self.first_listed = len(self.contracts)
        self._row = np.full((own_last - own_first + 1, len(self.contracts)), -1, dtype=np.int64)
        self._row[minutes - own_first, candles.symbol_index] = np.arange(len(candles))

    def first_minute(self) -> int | None:
        return self._first

    def last_minute(self) -> int | None:
        return self._last

    def day(self, day: int, block: int) -> Planes:
        contracts = slice(block * BLOCK, (block + 1) * BLOCK)
        of_block = self._row[:, contracts]
        row = np.full((DAY_MINUTES, of_block.shape[1]), -1, dtype=np.int64)
        offset = day * DAY_MINUTES - self._first
        begin, end = max(0, offset), min(len(of_block), offset + DAY_MINUTES)
        if begin < end:
            row[begin - offset : end - offset] = of_block[begin:end]
        per_unit = np.array([10.0**contract.price_decimals for contract in self.contracts[contracts]])
        return self._planes(row, per_unit)

    def _planes(self, row: IntArray, per_unit: FloatArray) -> Planes:
        candles, absent = self._candles, row < 0
        opened, high, low, close = (
            np.round(prices[row] * per_unit).astype(np.int32)
            for prices in (candles.open, candles.high, candles.low, candles.close)
        )
        return Planes(
            opened,
            high,
            low,
            close,
            candles.volume[row],
            candles.quote_volume[row],
            self._taker_volume[row],
            candles.trades[row],
        ).without(absent)


def _contracts(candles: CandleBatch) -> tuple[Contract, ...]:
    """Return a contract for each symbol, with the digits that its own candles need."""
    by_symbol = np.argsort(candles.symbol_index, kind="stable")
    starts = np.searchsorted(candles.symbol_index[by_symbol], np.arange(1, len(candles.symbols)))
    contracts = []
    for symbol, rows in zip(candles.symbols, np.split(by_symbol, starts), strict=True):
        columns = (candles.open, candles.high, candles.low, candles.close)
        prices = np.concatenate([column[rows] for column in columns])
        price_decimals = max(1, _decimals(prices, _LARGEST_TICKS))
        contracts.append(Contract(symbol, price_decimals, _decimals(candles.volume[rows], _LARGEST_LOTS)))
    return tuple(contracts)


def _decimals(values: FloatArray, largest: int) -> int:
    """Return the fewest digits after the point that represent all values, or fewer if a value would exceed `largest`
    units of the last digit; 0 for no values."""
    if not len(values):
        return 0
    for decimals in range(_MOST_DECIMALS):
        scaled = values * 10.0**decimals
        if np.abs(scaled).max() * 10 > largest or np.allclose(
            scaled, np.round(scaled), rtol=1e-12, atol=1e-6
        ):
            return decimals
    return _MOST_DECIMALS
