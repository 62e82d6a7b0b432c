"""Check that the exchange can be reached, before a process is started for it."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp
from prometheus_client import CollectorRegistry

from app.errors import ExchangeUnreachable
from app.feed.exchanges.answers import fault_of, shown
from app.feed.exchanges.rate_limit import RateLimit
from app.feed.exchanges.rest import RestClient
from app.feed.exchanges.venues import ExchangeAccess
from app.telemetry import feed_metrics

_TIMEOUT_S: Final = 6.0


async def check_exchange(exchange: ExchangeAccess) -> None:
    """Wait until both its REST and its streams answer. Raises ExchangeError, within seconds, naming the address that
    does not answer."""
    venue, rest_url, ws_url = exchange.venue, exchange.rest_url, exchange.ws_url
    async with aiohttp.ClientSession() as session:
        # metrics of a command, which no Prometheus reads
        metrics = feed_metrics(CollectorRegistry())
        rest = RestClient(session, venue, rest_url, RateLimit(1_000, metrics), metrics)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await venue.server_time_ms(rest.get_once)
        except TimeoutError:
            raise ExchangeUnreachable(
                f"the exchange {venue.name} does not answer at {rest_url} within {_TIMEOUT_S:.0f} s"
            ) from None
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ExchangeUnreachable(
                f"the server at {rest_url} is not {venue.name}: {shown(repr(error))}"
            ) from error
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                url = venue.ticker_stream_url(ws_url) or venue.stream_url(ws_url, ["BTCUSDT"])
                socket = await session.ws_connect(url, timeout=aiohttp.ClientWSTimeout(ws_close=1.0))
                await socket.close()
        except aiohttp.WSServerHandshakeError as error:
            raise fault_of(
                f"the streams of the exchange {venue.name} at {ws_url}", error.status, error.message.encode()
            ) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ExchangeUnreachable(
                f"the streams of the exchange {venue.name} do not open at {ws_url}: {error!r}"
            ) from error
