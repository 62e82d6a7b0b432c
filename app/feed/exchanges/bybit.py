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
from app.errors import ExchangeBlocked, ExchangeError, ExchangeLimited, ExchangeRefused, ExchangeUnreachable
from app.feed.exchanges.answers import shown
from app.feed.exchanges.day import computed_day
from app.feed.exchanges.exchange import Get, LeftOut, Listing, Listings, Reading, Request, Venue
from app.feed.exchanges.klines import closed_bars, floats, integers
from app.feed.exchanges.listings import sorted_out, tickers_of
from app.market.timeframes import TIMEFRAMES, words_of
from app.wire.tickers import Ticker

_UNFIT: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
_CATEGORY: Final = "linear"
_QUOTE: Final = "USDT"
_FAULTS: Final[dict[int, type[ExchangeError]]] = {
    10006: ExchangeLimited,  # too many visits
    10018: ExchangeLimited,  # too many requests of this address
    10009: ExchangeBlocked,  # the address is banned
    10010: ExchangeBlocked,  # the address does not match
    10024: ExchangeBlocked,  # not available where this is, by regulation
    10000: ExchangeUnreachable,  # server time-out
    10016: ExchangeUnreachable,  # internal error
}
"""Codes of faults other than a wrong request."""
_MOST_PAGES: Final = 20
"""Most pages, of a thousand contracts each: a cursor that never ends would be followed for ever."""
_REQUESTS_PER_MINUTE: Final = 6_000
"""600 in 5 s are allowed to an address; this spreads them."""
_MULTIPLIER_LAST: Final = re.compile(r"([A-Z]+?)(10{2,})")
"""Some contracts are called after their multiplier (SHIB1000), others before it (1000PEPE)."""
_TRADIFI: Final = ("stock", "xstocks", "commodity", "forex")
"""Symbol types of contracts on markets that have closing hours."""
_TOPIC: Final = "kline.1."


class BybitLinear(Venue):
    name: ClassVar[str] = "bybit"
    rest_url: ClassVar[str] = "https://api.bybit.com"
    ws_url: ClassVar[str] = "wss://stream.bybit.com/v5/public/linear"
    # all names of a connection together may have 21,000 characters
    streams_per_connection: ClassVar[int] = 200
    page_bars: ClassVar[int] = 1_000
    intervals: ClassVar[Mapping[str, str]] = words_of("bybit")
    ticker_poll_s: ClassVar[float | None] = 3.0
    keepalive_s: ClassVar[float | None] = 20.0
    keepalive: ClassVar[str] = '{"op":"ping"}'
    keepalive_answer: ClassVar[bytes] = b'"pong"'

    def __init__(self) -> None:
        self._native: dict[str, str] = {}
        """Canonical symbol -> Bybit's, where they differ."""
        self._canonical: dict[str, str] = {}

    async def listings(self, get: Get) -> Listings:
        contracts: list[Any] = []
        cursor = ""
        for _ in range(_MOST_PAGES):
            parameters = {"category": _CATEGORY, "limit": "1000"} | ({"cursor": cursor} if cursor else {})
            result = _result(await get(Request("/v5/market/instruments-info", parameters)))
            contracts += result["list"]
            cursor = result.get("nextPageCursor") or ""
            if not cursor or not result["list"]:
                break
        listings, left_out = sorted_out(contracts, self._listing)
        return Listings(listings, _REQUESTS_PER_MINUTE, left_out)

    async def tickers(self, get: Get) -> list[Ticker]:
        answer = await get(Request("/v5/market/tickers", {"category": _CATEGORY}))
        rows, event_ts_ms = _result(answer)["list"], int(answer["time"])
        # one that was never traded has no price yet
        traded = [one for one in rows if not isinstance(one, dict) or one.get("lastPrice") != ""]
        return tickers_of(traded, lambda one: self._ticker(one, event_ts_ms))

    async def server_time_ms(self, get: Get) -> int:
        answer = await get(Request("/v5/market/time"))
        _result(answer)
        return int(answer["time"])

    async def klines(
        self, get: Get, symbol: str, timeframe: str, first_ms: int, last_ms: int
    ) -> CandleBatch | None:
        minutes = TIMEFRAMES[timeframe]
        page_ms = self.page_bars * minutes * 60_000
        # the exchange gives the newest bars of a span first, so each page asks for its own span; even if one has no
        # bars, the next may have some
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

    def refusal(self, document: Any) -> ExchangeError | None:
        try:
            return _refusal(document)
        except _UNFIT:
            # the caller finds the fault
            return None

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
        """Return (symbol, event time, kline) of each kline of a push."""
        topic = message["topic"]
        if not topic.startswith(_TOPIC):
            raise ValueError("not a kline of one minute")
        native = topic.removeprefix(_TOPIC)
        symbol = self._canonical.get(native, native)
        return [(symbol, message["ts"], one) for one in message["data"]]

    def _ticker(self, one: Mapping[str, Any], event_ts_ms: int) -> Ticker:
        return Ticker(
            symbol=self._canonical.get(one["symbol"], one["symbol"]),
            last_price=float(one["lastPrice"]),
            price_change_pct=float(one["price24hPcnt"]) * 100,
            high=float(one["highPrice24h"]),
            low=float(one["lowPrice24h"]),
            volume=float(one["volume24h"]),
            quote_volume=float(one["turnover24h"]),
            event_ts_ms=event_ts_ms,
            day=computed_day(
                last_price=one["lastPrice"],
                open_price=one.get("prevPrice24h"),
                high=one["highPrice24h"],
                low=one["lowPrice24h"],
                volume=one["volume24h"],
                quote_volume=one["turnover24h"],
                close_time_ms=event_ts_ms,
            ),
        )

    def _listing(self, contract: Any) -> Listing | LeftOut:
        """Read a row of instruments-info. Contract types: LinearPerpetual, LinearFutures; statuses: PreLaunch, Trading,
        Delivering, Closed."""
        if contract["quoteCoin"] != _QUOTE:
            return LeftOut.OTHER_QUOTE
        if contract["status"] != "Trading":
            return LeftOut.NOT_TRADING
        if contract["contractType"] != "LinearPerpetual":
            return LeftOut.DATED
        symbol = self._learn(contract["symbol"], contract["baseCoin"])
        tradifi = str(contract.get("symbolType", "")).lower() in _TRADIFI
        return Listing(symbol, int(contract.get("launchTime") or 0), tradifi)

    def _learn(self, native: str, base: str) -> str:
        """Return the canonical symbol of a contract."""
        turned = _MULTIPLIER_LAST.fullmatch(base)
        symbol = f"{turned[2]}{turned[1]}{_QUOTE}" if turned else base + _QUOTE
        self._native[symbol] = native
        self._canonical[native] = symbol
        return symbol


def _refusal(answer: Any) -> ExchangeError | None:
    """Return the fault in an answer: errors come with status 200 and a code of their own. Raises one of _UNFIT if it is
    not an answer of Bybit."""
    code = answer["retCode"]
    if code == 0:
        return None
    fault = _FAULTS.get(code, ExchangeRefused) if isinstance(code, int) else ExchangeRefused
    said = shown(str(answer.get("retMsg", "")))
    return fault(f"the exchange bybit answers with code {shown(str(code))}: {said}")


def _result(answer: Any) -> Any:
    refusal = _refusal(answer)
    if refusal is not None:
        raise refusal
    return answer["result"]


def _candles(bars: Sequence[tuple[str, int, Any]], ingest_ts_ms: int) -> CandleBatch:
    """Read the candles. Raises one of _UNFIT if any of them is no kline."""
    symbols: dict[str, int] = {}
    index = [symbols.setdefault(symbol, len(symbols)) for symbol, _, _ in bars]
    klines = [kline for _, _, kline in bars]
    closed = [kline["confirm"] for kline in klines]
    if not {*map(type, closed)} <= {bool}:
        raise TypeError("confirm is not true or false")
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
