"""The exchanges we know, by the name that candles carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.errors import SettingsError
from app.feed.exchanges.binance import BinanceFutures
from app.feed.exchanges.bybit import BybitLinear
from app.feed.exchanges.exchange import Venue

VENUES: Final[dict[str, type[Venue]]] = {venue.name: venue for venue in (BinanceFutures, BybitLinear)}


@dataclass(frozen=True, slots=True)
class ExchangeAccess:
    """An exchange, and its addresses: the base URLs of its REST requests and streams."""

    venue: Venue
    rest_url: str
    ws_url: str


def exchange_access(name: str, rest_url: str | None, ws_url: str | None) -> ExchangeAccess:
    """Return the exchange of that name; a URL that is None is replaced by the exchange's own. Raises SettingsError for
    an exchange that we do not know."""
    try:
        venue = VENUES[name]()
    except KeyError:
        raise SettingsError(
            f"SCREENER_EXCHANGE is {name!r}; the feed knows {', '.join(sorted(VENUES))}. "
            "For another exchange publish candles to NATS with your own program, without the role feed"
        ) from None
    return ExchangeAccess(venue, rest_url or venue.rest_url, ws_url or venue.ws_url)
