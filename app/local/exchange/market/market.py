"""A market, as the exchange asks for it: its contracts, and their candles by day and block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from app.local.exchange.market.planes import Planes

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


class Market(Protocol):
    """A source of candles by UTC day (days since 1970) and block of 128 contracts; the last block may be narrower."""

    @property
    def seed(self) -> int:
        """The seed of the simulated path between a minute's open and its close."""
        ...

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """All contracts, also the ones not yet listed; block b holds contracts from 128 * b on."""
        ...

    @property
    def first_listed(self) -> int:
        """Number of contracts listed at the start; the others wait for their listing."""
        ...

    def first_minute(self) -> int | None:
        """Return the first minute, in minutes since 1970; None without a beginning."""
        ...

    def last_minute(self) -> int | None:
        """Return the last minute, in minutes since 1970; None without an end."""
        ...

    def day(self, day: int, block: int) -> Planes:
        """Return planes of shape (1440, contracts of the block)."""
        ...
