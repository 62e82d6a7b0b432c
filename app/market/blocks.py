"""Blocks: consecutive minutes of one quarter for many symbols at once, the unit in which everything is
computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import BoolArray, CandleBatch, FloatArray, IntArray
from app.market.layout import QUARTER
from app.market.state import Columns


@dataclass(frozen=True, slots=True, eq=False)
class Candles:
    """The numbers of n closed or forming candles as rows of arrays.

    sums: (4, n): quote volume, 1, volume, trades. extremes: (2, n): high, negated low. prices: (2, n): open,
    close. columns: (n,), the symbol's position in the state. minutes: (n,), since 1970. rows: (n,), position
    in the batch.
    """

    columns: NDArray[np.intp]
    minutes: IntArray
    sums: FloatArray
    extremes: FloatArray
    prices: FloatArray
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.columns)

    @classmethod
    def of(cls, batch: CandleBatch, columns: NDArray[np.intp], minutes: IntArray) -> Candles:
        rows = len(batch)
        sums = np.empty((4, rows))
        sums[0], sums[1], sums[2], sums[3] = batch.quote_volume, 1.0, batch.volume, batch.trades
        extremes = np.empty((2, rows))
        extremes[0] = batch.high
        np.negative(batch.low, out=extremes[1])
        prices = np.empty((2, rows))
        prices[0], prices[1] = batch.open, batch.close
        return cls(columns, minutes, sums, extremes, prices, np.arange(rows))

    def take(self, chosen: NDArray[np.intp] | BoolArray) -> Candles:
        return Candles(
            self.columns[chosen], self.minutes[chosen], self.sums[:, chosen],
            self.extremes[:, chosen], self.prices[:, chosen], self.rows[chosen],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """`T` minutes of one quarter, from its minute `offset`, for `W` symbols.

    columns: the symbols. sums (4, T, W), extremes (2, T, W), prices (2, T, W) as in `Candles`; where `known`
    is False sums are 0, extremes -inf and prices NaN. known: (T, W), None when every minute is known.
    active: (T, W), the minutes that this block adds to the symbol's time (between its first and last candle
    here); None when that is all of them.
    """

    quarter: int
    offset: int
    columns: Columns
    sums: FloatArray
    extremes: FloatArray
    prices: FloatArray
    known: BoolArray | None
    active: BoolArray | None

    @property
    def first(self) -> int:
        return self.quarter * QUARTER + self.offset

    @property
    def length(self) -> int:
        return int(self.sums.shape[1])

    @property
    def width(self) -> int:
        return int(self.sums.shape[2])

    @property
    def last(self) -> int:
        return self.first + self.length - 1

    @property
    def rows_in_quarter(self) -> slice:
        return slice(self.offset, self.offset + self.length)

    @property
    def open(self) -> FloatArray:
        prices: FloatArray = self.prices[0]
        return prices

    @property
    def close(self) -> FloatArray:
        prices: FloatArray = self.prices[1]
        return prices


def dense_shape(length: int, width: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sums, extremes and prices of `length` x `width` missing minutes."""
    return (
        np.zeros((4, length, width)),
        np.full((2, length, width), -np.inf),
        np.full((2, length, width), np.nan),
    )
