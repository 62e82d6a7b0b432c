"""Whether the exchange can be reached at all, asked before anything is started for it."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp

from app.errors import ExchangeUnreachable
from app.exchange.rate_limit import RateLimit
from app.exchange.rest import RestClient
from app.exchange.venues import rest_url_of, venue_of, ws_url_of
from app.settings import Settings

_TIMEOUT_S: Final = 6.0


async def check_exchange(settings: Settings) -> None:
    """Returns when both its REST and its streams answer. Raises ExchangeError, within seconds, with where it was
    looked for; SettingsError for an exchange that is not known."""
    venue = venue_of(settings)
    rest_url, ws_url = rest_url_of(settings, venue), ws_url_of(settings, venue)
    async with aiohttp.ClientSession() as session:
        rest = RestClient(session, venue, rest_url, RateLimit(1_000))
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await venue.server_time_ms(rest.get_once)
        except TimeoutError:
            raise ExchangeUnreachable(
                f"the exchange {venue.name} does not answer at {rest_url} within {_TIMEOUT_S:.0f} s"
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise ExchangeUnreachable(f"what answers at {rest_url} is not {venue.name}: {error!r}") from error
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                url = venue.ticker_stream_url(ws_url) or venue.stream_url(ws_url, ["BTCUSDT"])
                socket = await session.ws_connect(url, timeout=aiohttp.ClientWSTimeout(ws_close=1.0))
                await socket.close()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ExchangeUnreachable(
                f"the streams of the exchange {venue.name} do not open at {ws_url}: {error!r}"
            ) from error
