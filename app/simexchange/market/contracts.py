"""The contracts of a market: what exchangeInfo says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BLOCK: Final = 128
"""Contracts that are computed together."""
DAY_MINUTES: Final = 1440


@dataclass(frozen=True, slots=True)
class Contract:
    """One perpetual future quoted in USDT.

    price_decimals: digits after the point of prices; a price is a whole number of ticks of 10**-price_decimals.
    quantity_decimals: the same of quantities, in the base asset.
    """

    symbol: str
    price_decimals: int
    quantity_decimals: int

    @property
    def base_asset(self) -> str:
        return self.symbol.removesuffix("USDT")

    @property
    def quote_decimals(self) -> int:
        """Digits of turnover: price times quantity, at most eight."""
        return min(8, self.price_decimals + self.quantity_decimals)
