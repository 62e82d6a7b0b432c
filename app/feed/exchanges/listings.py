"""The contracts that an exchange lists, one by one: an unreadable or unusable entry costs that contract alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from app.candles.symbols import is_symbol
from app.feed.exchanges.exchange import LeftOut, Listing
from app.wire.tickers import Ticker

_UNFIT: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


def sorted_out(
    contracts: Iterable[Any], read: Callable[[Any], Listing | LeftOut]
) -> tuple[tuple[Listing, ...], Counter[LeftOut]]:
    """Return (usable contracts, number left out by reason). read: may raise any error of `_UNFIT` for a strange entry.

    Raises ValueError where most entries cannot be read: then it is no list of contracts."""
    listings: dict[str, Listing] = {}
    left_out: Counter[LeftOut] = Counter()
    for contract in contracts:
        try:
            found = read(contract)
            if isinstance(found, Listing) and not is_symbol(found.symbol):
                found = LeftOut.BAD_SYMBOL if isinstance(found.symbol, str) else LeftOut.UNREADABLE
        except _UNFIT:
            found = LeftOut.UNREADABLE
        if isinstance(found, Listing):
            listings[found.symbol] = found
        else:
            left_out[found] += 1
    most_readable(left_out[LeftOut.UNREADABLE], len(listings) + left_out.total())
    return tuple(listings.values()), left_out


def most_readable(unreadable: int, total: int) -> None:
    """Check that most entries were readable. Raises ValueError otherwise."""
    if unreadable * 2 > total:
        raise ValueError(f"{unreadable} of {total} entries cannot be read")


def tickers_of(rows: Iterable[Any], read: Callable[[Any], Ticker]) -> list[Ticker]:
    """Return the readable tickers; raises ValueError if most are unreadable."""
    tickers: list[Ticker] = []
    unreadable = 0
    for row in rows:
        try:
            tickers.append(read(row))
        except _UNFIT:
            unreadable += 1
    most_readable(unreadable, len(tickers) + unreadable)
    return tickers
