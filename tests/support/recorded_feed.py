"""A feed and the recorded exchange beside each other: what the exchange trades and sends, what the feed made of it."""

from __future__ import annotations

import orjson

from app.settings import Settings
from tests.support.eventually import eventually
from tests.support.feeds import RunningFeed
from tests.support.recorded_exchange import RecordedExchange

MINUTE_MS = 60_000
RECORDED_MINUTE_MS = 1626992700000
"""Of the first recorded frame."""


def speaking_to(exchange: RecordedExchange, settings: Settings, **more: object) -> Settings:
    urls = {"exchange_rest_url": exchange.url, "exchange_ws_url": exchange.ws_url}
    return settings.model_copy(update={**urls, "exchange_refresh_s": 1.0, **more})


def only(exchange: RecordedExchange, *symbols: str, listed_ms: int | None = None) -> None:
    """The exchange trades these symbols alone, since `listed_ms` (by default the minute before its present)."""
    exchange.symbols = [one for one in exchange.symbols if one["symbol"] in symbols]
    first_ms = exchange.now_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS if listed_ms is None else listed_ms
    exchange.listed_ms = first_ms
    for one in exchange.symbols:
        one |= {"onboardDate": first_ms}


def frame(
    symbol: str, open_time_ms: int, *, closed: bool, event_ts_ms: int | None = None, close: str = "10"
) -> bytes:
    kline = {
        "t": open_time_ms, "T": open_time_ms + MINUTE_MS - 1, "s": symbol, "i": "1m", "o": "10", "c": close,
        "h": "12", "l": "9", "v": "1", "n": 3, "x": closed, "q": "10", "V": "0.5", "Q": "5", "B": "0",
    }  # fmt: skip
    event_ms = event_ts_ms or open_time_ms + (MINUTE_MS if closed else 30_000)
    data = {"e": "kline", "E": event_ms, "s": symbol, "k": kline}
    return orjson.dumps({"stream": f"{symbol.lower()}@kline_1m", "data": data})


async def started(running: RunningFeed, exchange: RecordedExchange, *, live: int = 1) -> None:
    """Ready, with both sockets open, and candles of so many symbols going on."""
    await eventually(lambda: running.readiness[-1:] == [True])
    await eventually(lambda: len(exchange.sockets) == 2)
    await eventually(lambda: len(running.feed.live) >= live)


async def has_forming(running: RunningFeed, count: int) -> bool:
    return len(await running.candles(closed=False)) >= count


async def has_minutes(running: RunningFeed, symbol: str, count: int) -> bool:
    return len(await running.closed_minutes(symbol)) >= count
