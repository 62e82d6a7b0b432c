"""The exchanges we know, by the name that candles carry."""

from __future__ import annotations

from typing import Final

from app.errors import SettingsError
from app.exchange.binance import BinanceFutures
from app.exchange.bybit import BybitLinear
from app.exchange.venue import Venue
from app.settings import Settings

VENUES: Final[dict[str, type[Venue]]] = {venue.name: venue for venue in (BinanceFutures, BybitLinear)}


def venue_of(settings: Settings) -> Venue:
    """Raises SettingsError for an exchange that we cannot speak to."""
    try:
        return VENUES[settings.exchange]()
    except KeyError:
        raise SettingsError(
            f"SCREENER_EXCHANGE is {settings.exchange!r}; the feed knows {', '.join(sorted(VENUES))}. "
            "Candles of another exchange can be published to NATS by a program of yours, without the role feed"
        ) from None


def rest_url_of(settings: Settings, venue: Venue) -> str:
    return settings.exchange_rest_url or venue.rest_url


def ws_url_of(settings: Settings, venue: Venue) -> str:
    return settings.exchange_ws_url or venue.ws_url
