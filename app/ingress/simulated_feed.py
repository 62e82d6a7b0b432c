"""The `feed` role on the simulated market: a day of history, then live updates and closes by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from app.candles.batch import MINUTE_MS
from app.clock import Clock
from app.ingress.publish import candle_publisher
from app.ingress.simulated import SimulatedMarket
from app.settings import Settings

HISTORY_MINUTES = 1440
"""What the longest window needs."""
_HISTORY_SLICE_MINUTES = 20
log = structlog.get_logger("feed")


async def run_simulated_feed(
    settings: Settings, clock: Clock, stop: asyncio.Event, on_ready: Callable[[bool], None] | None = None
) -> None:
    """Publishes until `stop` is set; what was published by then is acknowledged when it returns. Calls
    `on_ready` once the history is out.

    Raises ServerUnreachable if NATS does not answer at the start, ServerError if JetStream refuses candles.
    """
    async with candle_publisher(settings, "feed") as publisher:
        start_ms = clock.now_ms() - HISTORY_MINUTES * MINUTE_MS
        # the first day's earlier minutes take seconds for thousands of symbols
        market = await asyncio.to_thread(
            SimulatedMarket, settings.simulated_symbols, settings.simulated_seed, start_ms
        )
        for _ in range(HISTORY_MINUTES // _HISTORY_SLICE_MINUTES):
            if stop.is_set():
                return
            await publisher.publish(market.history(_HISTORY_SLICE_MINUTES))
        await publisher.flush()
        if on_ready:
            on_ready(True)
        log.info("history_published", symbols=len(market.symbols), minutes=HISTORY_MINUTES)
        while not stop.is_set():
            now_ms = clock.now_ms()
            await publisher.publish(market.step(now_ms))
            to_the_close_s = (MINUTE_MS - now_ms % MINUTE_MS) / 1000
            await _wait(stop, min(1 / settings.simulated_updates_per_s, to_the_close_s))
        await publisher.flush()


async def _wait(stop: asyncio.Event, at_most_s: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), at_most_s)
    except TimeoutError:
        return
