"""Binance USD-M futures: https://developers.binance.com/docs/derivatives/usds-margined-futures

Combined kline streams, whose messages are `{"stream": ..., "data": {"e": "kline", "E": event time, "k": {...}}}`;
inside `k`: t open time, o h l c prices, v base volume, q quote volume, n trades, V and Q taker volumes, x closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import orjson

from app.candles.batch import CandleBatch
from app.exchange.klines import closed_bars, floats, integers
from app.exchange.venue import Get, Listing, Listings, Reading, Request, Venue
from app.tickers import Ticker

_UNFIT: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
_QUOTE: Final = "USDT"
_KLINES_WEIGHT: Final = ((100, 1), (500, 2), (1001, 5), (1501, 10))
"""A request for fewer bars than the first number costs the second."""
_MINUTES: Final = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "8h": 480, "1d": 1440}


class BinanceFutures(Venue):
    name: ClassVar[str] = "binance"
    rest_url: ClassVar[str] = "https://fapi.binance.com"
    ws_url: ClassVar[str] = "wss://fstream.binance.com/market/stream"
    # documents disagree between 200 and 1,024
    streams_per_connection: ClassVar[int] = 200
    # 499 bars cost 2, 1,500 cost 10
    page_bars: ClassVar[int] = 499
    intervals: ClassVar[Mapping[str, str]] = {name: name for name in _MINUTES}

    async def listings(self, get: Get) -> Listings:
        answer = await get(Request("/fapi/v1/exchangeInfo"))
        listings = tuple(
            Listing(symbol["symbol"], int(symbol.get("onboardDate", 0)))
            for symbol in answer["symbols"]
            if symbol["contractType"] == "PERPETUAL"
            and symbol["quoteAsset"] == _QUOTE
            and symbol["status"] == "TRADING"
        )
        limits = [
            int(limit["limit"])
            for limit in answer.get("rateLimits", ())
            if limit["rateLimitType"] == "REQUEST_WEIGHT" and limit["interval"] == "MINUTE"
        ]
        return Listings(listings, min(limits, default=None))

    async def tickers(self, get: Get) -> list[Ticker]:
        answer = await get(Request("/fapi/v1/ticker/24hr", weight=40))
        return [
            Ticker(
                symbol=one["symbol"],
                last_price=float(one["lastPrice"]),
                price_change_pct=float(one["priceChangePercent"]),
                high=float(one["highPrice"]),
                low=float(one["lowPrice"]),
                volume=float(one["volume"]),
                quote_volume=float(one["quoteVolume"]),
                event_ts_ms=int(one["closeTime"]),
            )
            for one in answer
        ]

    async def server_time_ms(self, get: Get) -> int:
        return int((await get(Request("/fapi/v1/time")))["serverTime"])

    async def klines(
        self, get: Get, symbol: str, timeframe: str, first_ms: int, last_ms: int
    ) -> CandleBatch | None:
        minutes = _MINUTES[timeframe]
        bars = min(self.page_bars, (last_ms - first_ms) // (minutes * 60_000) + 1)
        rows = await get(
            Request(
                "/fapi/v1/klines",
                {
                    "symbol": symbol,
                    "interval": self.intervals[timeframe],
                    "startTime": str(first_ms),
                    "endTime": str(last_ms),
                    "limit": str(bars),
                },
                next(weight for below, weight in _KLINES_WEIGHT if bars < below),
            )
        )
        return closed_bars(
            symbol,
            rows,
            exchange=self.name,
            interval_minutes=minutes,
            quote_volume_at=7,
            trades_at=8,
            taker_at=9,
        )

    def stream_url(self, base: str, symbols: Sequence[str]) -> str:
        return f"{base}?streams=" + "/".join(f"{symbol.lower()}@kline_1m" for symbol in symbols)

    def ticker_stream_url(self, base: str) -> str | None:
        return f"{base}?streams=!ticker@arr"

    def used_weight(self, headers: Mapping[str, str]) -> int | None:
        used = headers.get("X-MBX-USED-WEIGHT-1M", "")
        return int(used) if used.isdigit() else None

    def read(self, frames: Sequence[bytes], ingest_ts_ms: int) -> Reading:
        try:
            # one call for all frames costs half of one call each
            documents = orjson.loads(b"[%b]" % b",".join(frames))
            if len(documents) != len(frames):
                raise ValueError("a frame that is not one JSON value")
            klines = [document["data"] for document in documents]
            return Reading(_candles(klines, ingest_ts_ms))
        except _UNFIT:
            return _read_each(frames, ingest_ts_ms)


def _read_each(frames: Sequence[bytes], ingest_ts_ms: int) -> Reading:
    """Frames among which there are others than klines."""
    reading = Reading()
    klines = []
    for frame in frames:
        try:
            data = orjson.loads(frame)
            # a single stream comes without the name of the stream around it
            data = data.get("data", data) if isinstance(data, dict) else data
            if isinstance(data, list):
                reading.tickers += [_ticker(one) for one in data]
            elif data["e"] == "kline":
                _candles([data], ingest_ts_ms)
                klines.append(data)
            else:
                raise ValueError("no kline")
        except _UNFIT:
            reading.unreadable.append(frame)
    if klines:
        reading.candles = _candles(klines, ingest_ts_ms)
    return reading


def _candles(events: Sequence[Any], ingest_ts_ms: int) -> CandleBatch:
    """Raises one of _UNFIT if any of them is no kline of one minute."""
    klines = [event["k"] for event in events]
    if {kline["i"] for kline in klines} != {"1m"}:
        raise ValueError("klines of another interval")
    symbols: dict[str, int] = {}
    index = [symbols.setdefault(kline["s"], len(symbols)) for kline in klines]
    if not all(isinstance(symbol, str) for symbol in symbols):
        raise TypeError("a symbol that is no text")
    closed = [kline["x"] for kline in klines]
    if not {*map(type, closed)} <= {bool}:
        raise TypeError("x is neither true nor false")
    rows = len(klines)
    return CandleBatch(
        symbols=tuple(symbols),
        symbol_index=np.array(index, dtype=np.int32),
        open_time_ms=integers([kline["t"] for kline in klines]),
        open=floats([kline["o"] for kline in klines]),
        high=floats([kline["h"] for kline in klines]),
        low=floats([kline["l"] for kline in klines]),
        close=floats([kline["c"] for kline in klines]),
        volume=floats([kline["v"] for kline in klines]),
        quote_volume=floats([kline["q"] for kline in klines]),
        trades=integers([kline["n"] for kline in klines]),
        taker_buy_volume=floats([kline["V"] for kline in klines]),
        taker_buy_quote_volume=floats([kline["Q"] for kline in klines]),
        quote_estimated=np.zeros(rows, dtype=np.bool_),
        closed=np.array(closed, dtype=np.bool_),
        event_ts_ms=integers([event["E"] for event in events]),
        ingest_ts_ms=np.full(rows, ingest_ts_ms, dtype=np.int64),
        exchange=BinanceFutures.name,
    )


def _ticker(one: Mapping[str, Any]) -> Ticker:
    """Of `!ticker@arr`, or of `!miniTicker@arr`, which leaves the change to us."""
    if one["e"] not in ("24hrTicker", "24hrMiniTicker"):
        raise ValueError("no ticker")
    last, first = float(one["c"]), float(one["o"])
    change = float(one["P"]) if "P" in one else (last / first - 1) * 100 if first else 0.0
    return Ticker(
        symbol=one["s"],
        last_price=last,
        price_change_pct=change,
        high=float(one["h"]),
        low=float(one["l"]),
        volume=float(one["v"]),
        quote_volume=float(one["q"]),
        event_ts_ms=int(one["E"]),
    )
