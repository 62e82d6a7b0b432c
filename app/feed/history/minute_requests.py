"""Requests for owed minutes of one symbol, and what follows from the answers: publishing, asking again, giving up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import structlog

from app.candles.batch import MINUTE_MS, CandleBatch
from app.candles.known_minutes import Gap
from app.feed.exchange_clock import ExchangeClock
from app.feed.exchanges.exchange import Get, Venue
from app.feed.exchanges.klines import klines_page
from app.feed.history.coverage import Coverage, runs
from app.feed.history.fetch_progress import MinutesProgress
from app.feed.history.missing_minutes import MissingMinutes
from app.feed.pump import SharedPublisher
from app.telemetry import FeedMetrics

_CANDLES_PER_MESSAGE: Final = 500
log = structlog.get_logger("feed")


class MinuteRequests:
    """Fetches and publishes the minutes that a coverage owes."""

    def __init__(
        self,
        venue: Venue,
        get: Get,
        publisher: SharedPublisher,
        coverage: Coverage,
        exchange_clock: ExchangeClock,
        progress: MinutesProgress,
        give_up_s: float,
        metrics: FeedMetrics,
        given_up: Callable[[Gap], None],
    ) -> None:
        """give_up_s: how long a minute that the exchange does not have is asked for. given_up: called with each run of
        minutes that is given up."""
        self._venue = venue
        self._get = get
        self._publisher = publisher
        self._coverage = coverage
        self._exchange_clock = exchange_clock
        self._progress = progress
        self._missing = MissingMinutes(give_up_s)
        self._metrics = metrics
        self._given_up = given_up
        self._reported: set[tuple[str, int]] = set()
        """(symbol, minute) of each minute that a later stage lacks."""

    def owed(self, symbol: str) -> list[int]:
        """Return the owed minutes of a symbol, oldest first."""
        return [
            minute
            for gap in self._coverage.owed(symbol)
            for minute in range(gap.first_ms, gap.last_ms + 1, MINUTE_MS)
        ]

    def is_due(self, symbol: str) -> bool:
        """Return whether to request the owed minutes of a symbol now."""
        return self._missing.is_due(symbol, self.owed(symbol), time.monotonic())

    async def pages(self, symbol: str) -> AsyncIterator[CandleBatch]:
        """Request all owed minutes of a symbol once. Raises ExchangeError."""
        for gap in self._coverage.owed(symbol):
            first_ms = gap.first_ms
            while first_ms <= gap.last_ms:
                now_ms = self._exchange_clock.now_ms()
                bars = await klines_page(self._venue, self._get, symbol, "1m", first_ms, gap.last_ms, now_ms)
                if bars is None:
                    break
                self._metrics.backfilled_minutes.inc(len(bars))
                self._progress.fetched(len(bars))
                yield bars
                first_ms = int(bars.open_time_ms.max()) + MINUTE_MS

    async def publish(self, bars: CandleBatch) -> None:
        told = _minutes_of(bars) if self._reported else set()
        again = not self._reported.isdisjoint(told)
        await self._publisher.publish_fetched(bars, _per_message(bars), again=again)
        self._reported -= told

    def answered(self, symbol: str, asked: Sequence[int]) -> None:
        """Note requested minutes that are still owed; after a long time they are given up."""
        left = set(self.owed(symbol)).intersection(asked)
        for run in runs(symbol, self._missing.answered(symbol, left, time.monotonic())):
            self._coverage.give_up(run)
            self._given_up(run)
            self._reported -= {(symbol, at) for at in range(run.first_ms, run.last_ms + 1, MINUTE_MS)}
            self._metrics.given_up_minutes.inc(run.minutes)
            log.warning("minutes_given_up", symbol=symbol, first_ms=run.first_ms, minutes=run.minutes)

    def failed(self, symbol: str) -> None:
        """Note that the exchange did not answer."""
        self._missing.failed(symbol, time.monotonic())

    def report(self, gap: Gap) -> None:
        """Owe minutes again that a later stage lacks."""
        owed_again = self._coverage.report(gap)
        if owed_again:
            self._reported |= {(gap.symbol, at) for at in owed_again}
            log.info("gap_reported", symbol=gap.symbol, first_ms=gap.first_ms, minutes=gap.minutes)

    def forget(self, symbol: str) -> None:
        self._missing.forget(symbol)
        self._reported = {one for one in self._reported if one[0] != symbol}


def _minutes_of(bars: CandleBatch) -> set[tuple[str, int]]:
    symbols = [bars.symbols[index] for index in bars.symbol_index.tolist()]
    return set(zip(symbols, bars.open_time_ms.tolist(), strict=True))


def _per_message(bars: CandleBatch) -> int:
    """Return the candles per message: a few candles go one by one on their symbols' subjects, as live candles do."""
    return 1 if len(bars) <= 5 else _CANDLES_PER_MESSAGE
