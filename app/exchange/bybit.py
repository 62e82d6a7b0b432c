"""Bybit linear perpetuals: https://bybit-exchange.github.io/docs/v5/intro

Topics `kline.1.SYMBOL`, subscribed by message; a push is `{"topic": ..., "ts": event time, "data": [{start, open,
high, low, close, volume (base asset), turnover (quote asset), confirm (closed), ...}]}`. It tells neither the number
of trades (0 here) nor taker volumes (null).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import orjson

from app.candles.batch import CandleBatch
from app.errors import ExchangeLimited, ExchangeRefused
from app.exchange.klines import closed_bars, floats, integers
from app.exchange.venue import Get, Listing, Listings, Reading, Request, Venue
from app.tickers import Ticker

_UNFIT: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
_CATEGORY: Final = "linear"
_QUOTE: Final = "USDT"
_TOO_MANY_VISITS: Final = 10006
_REQUESTS_PER_MINUTE: Final = 6_000
"""600 in 5 s are allowed to an address; this spreads them."""
_MULTIPLIER_LAST: Final = re.compile(r"([A-Z]+?)(10{2,})")
"""Some contracts are called after their multiplier (SHIB1000), others before it (1000PEPE)."""
_MINUTES: Final = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}
_TOPIC: Final = "kline.1."


class BybitLinear(Venue):
    name: ClassVar[str] = "bybit"
    rest_url: ClassVar[str] = "https://api.bybit.com"
    ws_url: ClassVar[str] = "wss://stream.bybit.com/v5/public/linear"
    # all names of a connection together may have 21,000 characters
    streams_per_connection: ClassVar[int] = 200
    page_bars: ClassVar[int] = 1_000
    # it has no bars of 8 hours
    intervals: ClassVar[Mapping[str, str]] = {
        "1m": "1", "5m": "5", "15m": "15", "1h": "60", "4h": "240", "1d": "D",
    }  # fmt: skip
    ticker_poll_s: ClassVar[float | None] = 3.0
    keepalive_s: ClassVar[float | None] = 20.0
    keepalive: ClassVar[str] = '{"op":"ping"}'
    keepalive_answer: ClassVar[bytes] = b'"pong"'

    def __init__(self) -> None:
        self._native: dict[str, str] = {}
        """Canonical symbol -> Bybit's, where they differ."""
        self._canonical: dict[str, str] = {}

    async def listings(self, get: Get) -> Listings:
        listings: list[Listing] = []
        cursor = ""
        while True:
            parameters = {"category": _CATEGORY, "limit": "1000"} | ({"cursor": cursor} if cursor else {})
            result = _result(await get(Request("/v5/market/instruments-info", parameters)))
            for one in result["list"]:
                if (
                    one["contractType"] == "LinearPerpetual"
                    and one["quoteCoin"] == _QUOTE
                    and one["status"] == "Trading"
                ):
                    symbol = self._learn(one["symbol"], one["baseCoin"])
                    listings.append(Listing(symbol, int(one.get("launchTime") or 0)))
            cursor = result.get("nextPageCursor") or ""
            if not cursor or not result["list"]:
                return Listings(tuple(listings), _REQUESTS_PER_MINUTE)

    async def tickers(self, get: Get) -> list[Ticker]:
        answer = await get(Request("/v5/market/tickers", {"category": _CATEGORY}))
        return [
            Ticker(
                symbol=self._canonical.get(one["symbol"], one["symbol"]),
                last_price=float(one["lastPrice"]),
                price_change_pct=float(one["price24hPcnt"]) * 100,
                high=float(one["highPrice24h"]),
                low=float(one["lowPrice24h"]),
                volume=float(one["volume24h"]),
                quote_volume=float(one["turnover24h"]),
                event_ts_ms=int(answer["time"]),
            )
            for one in _result(answer)["list"]
            if one["lastPrice"]
        ]

    async def server_time_ms(self, get: Get) -> int:
        answer = await get(Request("/v5/market/time"))
        _result(answer)
        return int(answer["time"])

    async def klines(
        self, get: Get, symbol: str, timeframe: str, first_ms: int, last_ms: int
    ) -> CandleBatch | None:
        minutes = _MINUTES[timeframe]
        page_ms = self.page_bars * minutes * 60_000
        # the newest bars of a span are given first, so that a page is a span; one without bars says nothing of the next
        for start_ms in range(first_ms, last_ms + 1, page_ms):
            parameters = {
                "category": _CATEGORY,
                "symbol": self._native.get(symbol, symbol),
                "interval": self.intervals[timeframe],
                "start": str(start_ms),
                "end": str(min(last_ms, start_ms + page_ms - minutes * 60_000)),
                "limit": str(self.page_bars),
            }
            rows = _result(await get(Request("/v5/market/kline", parameters)))["list"]
            if rows:
                return closed_bars(
                    symbol, rows[::-1], exchange=self.name, interval_minutes=minutes, quote_volume_at=6
                )
        return None

    def stream_url(self, base: str, symbols: Sequence[str]) -> str:
        return base

    def ticker_stream_url(self, base: str) -> str | None:
        return None

    def subscriptions(self, symbols: Sequence[str]) -> list[str]:
        topics = [_TOPIC + self._native.get(symbol, symbol) for symbol in symbols]
        return [orjson.dumps({"op": "subscribe", "args": topics}).decode()]

    def used_weight(self, headers: Mapping[str, str]) -> int | None:
        return None

    def read(self, frames: Sequence[bytes], ingest_ts_ms: int) -> Reading:
        reading = Reading()
        bars: list[tuple[str, int, Any]] = []
        for frame in frames:
            try:
                message = orjson.loads(frame)
                if message.get("op") and message.get("success") is not False:
                    continue
                found = self._bars(message)
                _candles(found, ingest_ts_ms)
                bars += found
            except _UNFIT:
                reading.unreadable.append(frame)
        if bars:
            reading.candles = _candles(bars, ingest_ts_ms)
        return reading

    def _bars(self, message: Any) -> list[tuple[str, int, Any]]:
        """(symbol, event time, kline) of a push."""
        topic = message["topic"]
        if not topic.startswith(_TOPIC):
            raise ValueError("no kline of one minute")
        native = topic.removeprefix(_TOPIC)
        symbol = self._canonical.get(native, native)
        return [(symbol, message["ts"], one) for one in message["data"]]

    def _learn(self, native: str, base: str) -> str:
        """The canonical symbol of a contract."""
        turned = _MULTIPLIER_LAST.fullmatch(base)
        symbol = f"{turned[2]}{turned[1]}{_QUOTE}" if turned else base + _QUOTE
        self._native[symbol] = native
        self._canonical[native] = symbol
        return symbol


def _result(answer: Any) -> Any:
    """Errors come with status 200 and a code of their own."""
    code = answer["retCode"]
    if code == _TOO_MANY_VISITS:
        raise ExchangeLimited(f"the exchange bybit has had too many requests: {answer['retMsg']}")
    if code != 0:
        raise ExchangeRefused(f"the exchange bybit refuses a request: {answer['retMsg']} (code {code})")
    return answer["result"]


def _candles(bars: Sequence[tuple[str, int, Any]], ingest_ts_ms: int) -> CandleBatch:
    """Raises one of _UNFIT if any of them is no kline."""
    symbols: dict[str, int] = {}
    index = [symbols.setdefault(symbol, len(symbols)) for symbol, _, _ in bars]
    klines = [kline for _, _, kline in bars]
    closed = [kline["confirm"] for kline in klines]
    if not {*map(type, closed)} <= {bool}:
        raise TypeError("confirm is neither true nor false")
    rows = len(bars)
    return CandleBatch(
        symbols=tuple(symbols),
        symbol_index=np.array(index, dtype=np.int32),
        open_time_ms=integers([kline["start"] for kline in klines]),
        open=floats([kline["open"] for kline in klines]),
        high=floats([kline["high"] for kline in klines]),
        low=floats([kline["low"] for kline in klines]),
        close=floats([kline["close"] for kline in klines]),
        volume=floats([kline["volume"] for kline in klines]),
        quote_volume=floats([kline["turnover"] for kline in klines]),
        trades=np.zeros(rows, dtype=np.int64),
        taker_buy_volume=np.full(rows, np.nan),
        taker_buy_quote_volume=np.full(rows, np.nan),
        quote_estimated=np.zeros(rows, dtype=np.bool_),
        closed=np.array(closed, dtype=np.bool_),
        event_ts_ms=integers([event_ts_ms for _, event_ts_ms, _ in bars]),
        ingest_ts_ms=np.full(rows, ingest_ts_ms, dtype=np.int64),
        exchange=BybitLinear.name,
    )
