"""Keeps the universe up to date: which symbols are followed, asked again and again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from app.errors import ExchangeError
from app.exchange.answers import reading_answer
from app.exchange.rate_limit import RateLimit
from app.exchange.universe import choose
from app.exchange.venue import Get, Listing, Listings, Venue
from app.telemetry import feed_metrics
from app.tickers import Ticker

_FIRST_RETRY_S: Final = 1.0
_LONGEST_RETRY_S: Final = 30.0
_SOONEST_S: Final = 5.0
"""Between two looks, however many symbols seem to be gone."""
_SUSPICIOUS_SHARE: Final = 0.5
"""If so much of the market is gone at once it is asked again before it is believed."""
log = structlog.get_logger("feed")

OnUniverse = Callable[[Sequence[Listing], Sequence[Ticker]], Awaitable[None]]
"""Told the followed symbols, largest first, whenever they were looked at, and the tickers of the market."""


class Universe:
    """`run` until cancelled. size: how many symbols at most."""

    def __init__(
        self, venue: Venue, get: Get, limit: RateLimit, size: int, refresh_s: float, on_universe: OnUniverse
    ) -> None:
        self._venue = venue
        self._get = get
        self._limit = limit
        self._size = size
        self._refresh_s = refresh_s
        self._on_universe = on_universe
        self._followed: tuple[str, ...] = ()
        self.failures = 0
        """Looks in a row at which the exchange did not answer."""

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._followed

    async def run(self, look_again: asyncio.Event) -> None:
        """look_again: set it when a symbol may be gone."""
        while True:
            try:
                await self._look()
                self.failures = 0
            except ExchangeError as error:
                self.failures += 1
                retry_s = min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(self.failures, 10))
                log.error(
                    "exchange_unavailable",
                    error=str(error),
                    again_in_s=round(retry_s, 1),
                    advice="check the network, and SCREENER_EXCHANGE_REST_URL",
                )
                await asyncio.sleep(retry_s * random.uniform(0.5, 1.0))  # noqa: S311  # reason: jitter
                continue
            await asyncio.sleep(min(_SOONEST_S, self._refresh_s))
            with suppress(TimeoutError):
                await asyncio.wait_for(look_again.wait(), max(0.0, self._refresh_s - _SOONEST_S))
            look_again.clear()

    async def _look(self) -> None:
        listed, tickers = await self._ask()
        if len(listed.listings) < len(self._followed) * _SUSPICIOUS_SHARE:
            log.warning("universe_shrank", followed=len(self._followed), listed=len(listed.listings))
            listed, tickers = await self._ask()
        if listed.weight_limit is not None:
            self._limit.limit_per_minute = listed.weight_limit
        listings = {listing.symbol: listing for listing in listed.listings}
        volume = {ticker.symbol: ticker.quote_volume for ticker in tickers}
        followed = choose(listings, volume, self._size, self._followed)
        new, gone = set(followed) - set(self._followed), set(self._followed) - set(followed)
        if new or gone:
            log.info("universe_changed", followed=len(followed), new=sorted(new)[:20], gone=sorted(gone)[:20])
        self._followed = followed
        feed_metrics().symbols.set(len(followed))
        await self._on_universe([listings[symbol] for symbol in followed], tickers)

    async def _ask(self) -> tuple[Listings, list[Ticker]]:
        with reading_answer(self._venue, "its symbols and their tickers"):
            return await self._venue.listings(self._get), await self._venue.tickers(self._get)
