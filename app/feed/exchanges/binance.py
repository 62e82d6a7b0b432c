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
from app.feed.exchanges.day import computed_day, told_day
from app.feed.exchanges.exchange import Get, LeftOut, Listing, Listings, Reading, Request, Venue
from app.feed.exchanges.klines import closed_bars, floats, integers
from app.feed.exchanges.listings import sorted_out, tickers_of
from app.market.timeframes import TIMEFRAMES, words_of
from app.wire.tickers import Ticker

_UNFIT: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
_QUOTE: Final = "USDT"
_PERPETUALS: Final = ("PERPETUAL", "TRADIFI_PERPETUAL")
_KLINES_WEIGHT: Final = ((100, 1), (500, 2), (1001, 5), (1501, 10))
"""A request for fewer bars than the first number costs the second."""
_DAY_KEYS: Final = (
    "priceChange", "priceChangePercent", "weightedAvgPrice", "lastPrice", "lastQty", "openPrice", "highPrice",
    "lowPrice", "volume", "quoteVolume", "openTime", "closeTime", "count",
)  # fmt: skip
_STREAMED_DAY_KEYS: Final = ("p", "P", "w", "c", "Q", "o", "h", "l", "v", "q", "O", "C", "n")


class BinanceFutures(Venue):
    name: ClassVar[str] = "binance"
    rest_url: ClassVar[str] = "https://fapi.binance.com"
    ws_url: ClassVar[str] = "wss://fstream.binance.com/market/stream"
    # documents disagree between 200 and 1,024
    streams_per_connection: ClassVar[int] = 200
    # 499 bars cost 2, 1,500 cost 10
    page_bars: ClassVar[int] = 499
    intervals: ClassVar[Mapping[str, str]] = words_of("binance")

    async def listings(self, get: Get) -> Listings:
        answer = await get(Request("/fapi/v1/exchangeInfo"))
        listings, left_out = sorted_out(answer["symbols"], _listing)
        limits = [
            int(limit["limit"])
            for limit in answer.get("rateLimits", ())
            if limit["rateLimitType"] == "REQUEST_WEIGHT" and limit["interval"] == "MINUTE"
        ]
        return Listings(listings, min(limits, default=None), left_out)

    async def tickers(self, get: Get) -> list[Ticker]:
        answer = await get(Request("/fapi/v1/ticker/24hr", weight=40))
        return tickers_of(answer, _day_ticker)

    async def server_time_ms(self, get: Get) -> int:
        return int((await get(Request("/fapi/v1/time")))["serverTime"])

    async def klines(
        self, get: Get, symbol: str, timeframe: str, first_ms: int, last_ms: int
    ) -> CandleBatch | None:
        minutes = TIMEFRAMES[timeframe]
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
                raise ValueError("a frame that is not JSON")
            klines = [document["data"] for document in documents]
            return Reading(_candles(klines, ingest_ts_ms))
        except _UNFIT:
            return _read_each(frames, ingest_ts_ms)


def _listing(contract: Any) -> Listing | LeftOut:
    """Read an entry of exchangeInfo. Contract types: PERPETUAL, TRADIFI_PERPETUAL, {CURRENT,NEXT}_{MONTH,QUARTER},
    PERPETUAL_DELIVERING, empty before trade; statuses: PENDING_TRADING, TRADING, PRE_SETTLE, SETTLING, CLOSE and
    {PRE_,}DELIVERING, DELIVERED."""
    kind = contract["contractType"]
    if contract["quoteAsset"] != _QUOTE:
        return LeftOut.OTHER_QUOTE
    if contract["status"] != "TRADING":
        return LeftOut.NOT_TRADING
    if kind not in _PERPETUALS:
        return LeftOut.DATED
    return Listing(contract["symbol"], int(contract.get("onboardDate", 0)), kind != "PERPETUAL")


def _read_each(frames: Sequence[bytes], ingest_ts_ms: int) -> Reading:
    """Read frames that include others than klines."""
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
    """Read the candles. Raises one of _UNFIT if any of them is not a kline of one minute."""
    klines = [event["k"] for event in events]
    if {kline["i"] for kline in klines} != {"1m"}:
        raise ValueError("klines of another interval")
    symbols: dict[str, int] = {}
    index = [symbols.setdefault(kline["s"], len(symbols)) for kline in klines]
    if not all(isinstance(symbol, str) for symbol in symbols):
        raise TypeError("a symbol that is not text")
    closed = [kline["x"] for kline in klines]
    if not {*map(type, closed)} <= {bool}:
        raise TypeError("x is not true or false")
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


def _day_ticker(one: Mapping[str, Any]) -> Ticker:
    """Read the 24 h statistics of REST."""
    return Ticker(
        symbol=one["symbol"],
        last_price=float(one["lastPrice"]),
        price_change_pct=float(one["priceChangePercent"]),
        high=float(one["highPrice"]),
        low=float(one["lowPrice"]),
        volume=float(one["volume"]),
        quote_volume=float(one["quoteVolume"]),
        event_ts_ms=int(one["closeTime"]),
        day=told_day(one, _DAY_KEYS),
    )


def _ticker(one: Mapping[str, Any]) -> Ticker:
    """Read `!ticker@arr`, or `!miniTicker@arr`, which has no price change: we compute it."""
    if one["e"] not in ("24hrTicker", "24hrMiniTicker"):
        raise ValueError("no ticker")
    last, first = float(one["c"]), float(one["o"])
    change = float(one["P"]) if "P" in one else (last / first - 1) * 100 if first else 0.0
    day = told_day(one, _STREAMED_DAY_KEYS) or computed_day(
        last_price=one["c"],
        open_price=one["o"],
        high=one["h"],
        low=one["l"],
        volume=one["v"],
        quote_volume=one["q"],
        close_time_ms=int(one["E"]),
    )
    return Ticker(
        symbol=one["s"],
        last_price=last,
        price_change_pct=change,
        high=float(one["h"]),
        low=float(one["l"]),
        volume=float(one["v"]),
        quote_volume=float(one["q"]),
        event_ts_ms=int(one["E"]),
        day=day,
    )
