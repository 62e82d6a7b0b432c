"""`screener backfill`: the exchange's own bars of many days into the database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import aiohttp
import click
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.candles.batch import CandleBatch, IntArray
from app.candles.intervals import DAY_MS
from app.cli.servers import settings_here
from app.clock import SystemClock
from app.database.candles.bar_tables import BAR_TABLE_OF
from app.database.candles.klines import whole_bars
from app.database.connection import connect, database_faults
from app.errors import BadInput, ScreenerError
from app.feed.exchanges.exchange import Get, Listing, Listings, Venue
from app.feed.exchanges.rate_limit import RateLimit
from app.feed.exchanges.rest import RestClient
from app.feed.exchanges.venues import ExchangeAccess, exchange_access
from app.feed.history.long_history import LongHistory, StoredBars
from app.feed.universe import choose
from app.process.interrupts import interruptible
from app.settings.access import PostgresAccess
from app.sinks.exchange_bars import write_bars
from app.telemetry import feed_metrics

_FIRST_WEIGHT_LIMIT = 1_200
_SHARE_OF_LIMIT = 0.5
"""The feed of a running screener has the rest."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """symbols: None for the `most_symbols` with the largest volume."""

    days: int
    intervals: Sequence[str]
    symbols: Sequence[str] | None
    most_symbols: int


def backfill(days: int, intervals: Sequence[str], symbols: tuple[str, ...] | None) -> None:
    settings = settings_here()
    if settings.history_days and days > settings.history_days:
        raise BadInput(
            "too_many_days",
            f"--days {days}: bars older than SCREENER_HISTORY_DAYS={settings.history_days} would be deleted; "
            "set it higher, or 0 to keep everything",
        )
    try:
        access = exchange_access(settings.exchange, settings.exchange_rest_url, settings.exchange_ws_url)
        click.echo(f"asking {settings.exchange} at {access.rest_url}", err=True)
        wanted = _Wanted(days, tuple(intervals), symbols, settings.exchange_symbols)
        stored = asyncio.run(interruptible(_backfill(access, settings.postgres(), wanted)))
    except* ScreenerError as errors:
        raise errors.exceptions[0] from None
    click.echo(f"{stored:,} bars stored")


async def _backfill(access: ExchangeAccess, postgres: PostgresAccess, wanted: _Wanted) -> int:
    metrics = feed_metrics(CollectorRegistry())
    limit = RateLimit(_FIRST_WEIGHT_LIMIT, metrics)
    writing = asyncio.Lock()
    with database_faults(postgres):
        async with await connect(postgres) as connection, aiohttp.ClientSession() as session:
            rest = RestClient(session, access.venue, access.rest_url, limit, metrics)
            listings = await access.venue.listings(rest.get)
            limit.limit_per_minute = int((listings.weight_limit or _FIRST_WEIGHT_LIMIT) * _SHARE_OF_LIMIT)
            chosen = await _chosen(access.venue, rest.get, listings, wanted)

            async def store(timeframe: str, bars: CandleBatch) -> int:
                async with writing:
                    # here too: the tasks raise an exception group, in which the outer context finds no error
                    with database_faults(postgres):
                        return await write_bars(connection, timeframe, bars)

            history = LongHistory(access.venue, rest.get, _stored_in(connection), store)
            return await _fetch_all(history, wanted, chosen)


def _stored_in(connection: AsyncConnection) -> StoredBars:
    async def stored(timeframe: str, symbol: str, since_ms: int, until_ms: int) -> IntArray:
        return await whole_bars(connection, BAR_TABLE_OF[timeframe], symbol, since_ms, until_ms)

    return stored


async def _chosen(venue: Venue, get: Get, listings: Listings, wanted: _Wanted) -> list[Listing]:
    """Return the listings of the given symbols, or of the symbols that a feed would follow, largest first."""
    by_symbol = {listing.symbol: listing for listing in listings.listings}
    if wanted.symbols is not None:
        unknown = sorted(set(wanted.symbols) - by_symbol.keys())
        if unknown:
            raise BadInput("unknown_symbol", f"the exchange does not list {', '.join(unknown)}")
        return [by_symbol[symbol] for symbol in dict.fromkeys(wanted.symbols)]
    volume = {ticker.symbol: ticker.quote_volume for ticker in await venue.tickers(get)}
    return [by_symbol[symbol] for symbol in choose(by_symbol, volume, wanted.most_symbols)]


async def _fetch_all(history: LongHistory, wanted: _Wanted, listings: Sequence[Listing]) -> int:
    """Store all missing bars, the longest first, so that charts of long times are there soon. Return their number."""
    now_ms = SystemClock().now_ms()
    stored = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        for timeframe in [name for name in reversed(BAR_TABLE_OF) if name in wanted.intervals]:
            pages = await history.owed(timeframe, listings, now_ms - wanted.days * DAY_MS, now_ms)
            task = bar.add_task(f"{timeframe} bars, requests", total=len(pages))
            stored += await history.fetch(pages, now_ms, partial(bar.advance, task))
    return stored
