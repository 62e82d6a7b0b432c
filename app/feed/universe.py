"""The universe: which symbols are followed, and how that is kept up to date."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog

from app.errors import ExchangeError
from app.feed.exchanges.answers import advice_for, reading_answer
from app.feed.exchanges.exchange import Get, LeftOut, Listing, Listings, Venue
from app.feed.exchanges.rate_limit import RateLimit
from app.telemetry import FeedMetrics
from app.wire.retry import Backoff, OutageLog
from app.wire.tickers import Ticker

STAYS_WITHIN: Final = 1.1
"""A followed symbol stays while its rank is within this multiple of the size."""
ENTERS_WITHIN: Final = 0.9
"""A new symbol replaces the smallest one only if its rank is within this multiple of the size."""
_BACKOFF: Final = Backoff(1.0, 30.0)
_SOONEST_S: Final = 5.0
"""The least time between two requests for the symbols, however many of them seem to be gone."""
_SUSPICIOUS_SHARE: Final = 0.5
"""If fewer symbols than this share of the followed ones are listed, the exchange is asked again."""
log = structlog.get_logger("feed")

OnUniverse = Callable[[Sequence[Listing], Sequence[Ticker]], Awaitable[None]]
"""Called after each request with the followed symbols, largest first, and the tickers of the market."""


def choose(
    listed: Collection[str], quote_volume: Mapping[str, float], size: int, followed: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return at most `size` of the listed symbols, largest first.

    quote_volume: of 24 h by symbol; missing counts as 0. followed: the symbols chosen last time.
    """
    ranked = sorted(listed, key=lambda symbol: (-quote_volume.get(symbol, 0.0), symbol))
    rank = {symbol: number for number, symbol in enumerate(ranked, 1)}
    members = {symbol for symbol in followed if rank.get(symbol, size * 2 + 1) <= size * STAYS_WITHIN}
    for symbol in ranked:
        if symbol in members:
            continue
        if len(members) >= size:
            smallest = max(members, key=rank.__getitem__)
            if rank[symbol] > size * ENTERS_WITHIN or rank[smallest] < rank[symbol]:
                break
            members.remove(smallest)
        members.add(symbol)
    return tuple(sorted(members, key=rank.__getitem__)[:size])


def assign(
    shards: Sequence[Sequence[str]], symbols: Sequence[str], per_connection: int
) -> list[tuple[str, ...]]:
    """Return the symbols of each connection, changing as few of the given shards as possible.

    A dropped symbol leaves its shard; new symbols fill shards that have room, then new shards. A shard
    left without symbols stays in its place, empty.
    """
    wanted = set(symbols)
    kept = [[symbol for symbol in shard if symbol in wanted] for shard in shards]
    placed = {symbol for shard in kept for symbol in shard}
    new = [symbol for symbol in symbols if symbol not in placed]
    # shards with least room first, so that most connections stay as they are
    for shard in sorted(kept, key=len, reverse=True):
        room = per_connection - len(shard)
        if room > 0 and new:
            shard += new[:room]
            new = new[room:]
    while new:
        kept.append(new[:per_connection])
        new = new[per_connection:]
    return [tuple(shard) for shard in kept]


class FollowedSymbols:
    """Keeps the followed symbols up to date: `run` until cancelled. size: most symbols that are followed. tradifi:
    whether contracts on shares and commodities are followed too."""

    def __init__(
        self,
        venue: Venue,
        get: Get,
        limit: RateLimit,
        size: int,
        refresh_s: float,
        on_universe: OnUniverse,
        metrics: FeedMetrics,
        *,
        tradifi: bool = False,
    ) -> None:
        self._venue = venue
        self._metrics = metrics
        self._get = get
        self._limit = limit
        self._size = size
        self._refresh_s = refresh_s
        self._on_universe = on_universe
        self._tradifi = tradifi
        self._followed: tuple[str, ...] = ()
        self._left_out: Counter[LeftOut] = Counter()
        self._outage = OutageLog(log, "exchange_unavailable")

    @property
    def failures(self) -> int:
        """Number of consecutive requests that the exchange did not answer."""
        return self._outage.failures

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._followed

    async def run(self, look_again: asyncio.Event) -> None:
        """look_again: set it when a symbol may be gone."""
        while True:
            try:
                await self._look()
            except ExchangeError as error:
                # also if the exchange refuses us: the cause may be mended while the feed waits
                self._outage.failed(error, advice=advice_for(error))
                await asyncio.sleep(_BACKOFF.wait_s(self._outage.failures))
                continue
            self._outage.over()
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
        listings = {
            listing.symbol: listing for listing in listed.listings if self._tradifi or not listing.tradifi
        }
        volume = {ticker.symbol: ticker.quote_volume for ticker in tickers}
        followed = choose(listings, volume, self._size, self._followed)
        new, gone = set(followed) - set(self._followed), set(self._followed) - set(followed)
        if new or gone:
            log.info("universe_changed", followed=len(followed), new=sorted(new)[:20], gone=sorted(gone)[:20])
        self._followed = followed
        self._tell_left_out(
            Counter(listed.left_out)
            + Counter(
                {
                    LeftOut.TRADIFI: len(listed.listings) - len(listings),
                    LeftOut.SMALLER: len(listings) - len(followed),
                }
            )
        )
        self._metrics.symbols.set(len(followed))
        await self._on_universe([listings[symbol] for symbol in followed], tickers)

    def _tell_left_out(self, left_out: Counter[LeftOut]) -> None:
        for reason in LeftOut:
            self._metrics.left_out.labels(reason=reason).set(left_out[reason])
        if left_out != self._left_out:
            self._left_out = left_out
            log.info(
                "symbols_left_out",
                total=left_out.total(),
                **{reason.value: left_out[reason] for reason in LeftOut if left_out[reason]},
                advice="set SCREENER_EXCHANGE_TRADIFI for `tradifi`, raise SCREENER_EXCHANGE_SYMBOLS for `smaller`",
            )

    async def _ask(self) -> tuple[Listings, list[Ticker]]:
        with reading_answer(self._venue, "its symbols and their tickers"):
            return await self._venue.listings(self._get), await self._venue.tickers(self._get)
