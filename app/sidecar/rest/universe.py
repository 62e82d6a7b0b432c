"""GET /api/symbols and /api/tickers: the known symbols, and the tickers of their last 24 h."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from aiohttp import web

from app.candles.symbols import is_symbol
from app.sidecar.http.parameters import Parameters
from app.sidecar.http.problems import unknown_symbol
from app.sidecar.http.responses import conditional_json
from app.sidecar.state.latest import LatestMetrics
from app.sidecar.state.tickers import FreshTickers
from app.times import rfc3339
from app.wire.tickers import Ticker, TickerStore


class SymbolsEndpoint:
    def __init__(self, latest: LatestMetrics) -> None:
        self._latest = latest

    async def get(self, request: web.Request) -> web.Response:
        Parameters(request.query, ())
        found = [
            {"symbol": seen.symbol, "exchange": seen.exchange, "timestamp": rfc3339(seen.event_ts_ms)}
            for seen in self._latest.seen()
        ]
        return conditional_json(request, orjson.dumps({"symbols": found}))


class TickersEndpoint:
    def __init__(self, store: TickerStore) -> None:
        self._tickers = FreshTickers(store, _encode)

    async def get(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, ("symbols",))
        symbols: Sequence[str] = parameters.words("symbols", is_symbol, "a symbol such as BTCUSDT")
        known = await self._tickers.encoded()
        if not all(symbol in known for symbol in symbols):
            raise unknown_symbol("one of these symbols has no ticker")
        found = [known[symbol] for symbol in symbols] if symbols else known.values()
        return conditional_json(request, b'{"tickers":[' + b",".join(found) + b"]}")


def _encode(ticker: Ticker) -> bytes:
    return orjson.dumps(
        {
            "symbol": ticker.symbol,
            "last_price": ticker.last_price,
            "price_change_pct": ticker.price_change_pct,
            "high": ticker.high,
            "low": ticker.low,
            "volume": ticker.volume,
            "quote_volume": ticker.quote_volume,
            "timestamp": rfc3339(ticker.event_ts_ms),
        }
    )
