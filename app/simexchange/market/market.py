"""What the exchange asks of a market."""

from __future__ import annotations

from typing import Protocol

from app.simexchange.market.contracts import Contract
from app.simexchange.market.planes import Planes


class Market(Protocol):
    """Candles by UTC day (days since 1970) and block of 128 contracts, the last block narrower perhaps."""

    @property
    def seed(self) -> int:
        """Of what is made up between a minute's open and its close."""
        ...

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """All there ever will be; block b holds those from 128 * b on."""
        ...

    @property
    def first_listed(self) -> int:
        """So many of them are listed at the start; the others wait for their listing."""
        ...

    def first_minute(self) -> int | None:
        """Minutes since 1970; None if there is no beginning."""
        ...

    def last_minute(self) -> int | None:
        """Minutes since 1970; None if there is no end."""
        ...

    def day(self, day: int, block: int) -> Planes:
        """Planes of shape (1440, contracts of the block)."""
        ...
