"""The traded contracts, and the first and last minute of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.local.exchange.market.market import Market

_NEVER: Final = np.iinfo(np.int64).max


class TradedContracts:
    """The contracts of a market, traded or not yet listed.

    first, end: per contract, the first minute (since 1970) with candles, and the minute after the last; int64.
    """

    def __init__(self, market: Market, first_minute: int) -> None:
        self.contracts = market.contracts
        self.index = {contract.symbol: number for number, contract in enumerate(market.contracts)}
        self.first = np.full(len(market.contracts), _NEVER)
        self.first[: market.first_listed] = first_minute
        end = market.last_minute()
        self.end = np.full(len(market.contracts), _NEVER if end is None else end + 1)
        self._settled: set[int] = set()

    def traded(self, minute: int) -> NDArray[np.bool_]:
        """Return the mask of contracts with a candle of `minute`, shape (contracts,)."""
        return (self.first <= minute) & (minute < self.end)

    def listed(self) -> list[int]:
        """Return the contracts that exchangeInfo names, settled ones included."""
        listed: list[int] = np.flatnonzero(self.first < _NEVER).tolist()
        return listed

    def status(self, contract: int, minute: int) -> str:
        if contract in self._settled:
            return "SETTLING"
        return "TRADING" if self.first[contract] <= minute else "PENDING_TRADING"

    def list_new(self, count: int, minute: int) -> list[str]:
        """List up to `count` of the waiting contracts, traded from `minute` on; return their symbols."""
        waiting = np.flatnonzero(self.first == _NEVER)[:count].tolist()
        for contract in waiting:
            self.first[contract] = minute
        return [self.contracts[contract].symbol for contract in waiting]

    def delist(self, contracts: Sequence[int], minute: int) -> list[str]:
        """End trade with `minute`; return the symbols that were traded."""
        gone = [contract for contract in contracts if self.traded(minute)[contract]]
        for contract in gone:
            self.end[contract] = minute + 1
            self._settled.add(contract)
        return [self.contracts[contract].symbol for contract in gone]

    def newest(self, count: int, minute: int) -> list[int]:
        """Return the `count` traded contracts with the highest numbers."""
        newest: list[int] = np.flatnonzero(self.traded(minute))[::-1][:count].tolist()
        return newest
