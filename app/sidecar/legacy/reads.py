"""The public reads: alerts, metrics, tickers, klines. Unknown parameters and most invalid values are ignored."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import orjson
from aiohttp import hdrs, web
from multidict import MultiMapping

from app.candles.intervals import INTERVALS
from app.candles.symbols import is_symbol
from app.database.alert_history import AlertFilter
from app.database.candles.klines import klines
from app.market.fields import COLUMN_POSITION
from app.sidecar.http.parameters import RULE_TYPE, Parameters
from app.sidecar.http.problems import RequestError, unavailable
from app.sidecar.legacy.shapes import alert_document, ticker_json, timeframe_documents
from app.sidecar.rest.klines import exchange_arrays
from app.sidecar.state.alert_history import AlertHistory
from app.sidecar.state.database import Database, HistoryUnavailable
from app.sidecar.state.latest import LatestMetrics, LatestRow
from app.sidecar.state.tickers import FreshTickers
from app.times import rfc3339
from app.wire.tickers import TickerStore

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_PIECE_BYTES: Final = 64 * 1024
_MOST_SYMBOLS: Final = 5_000
_INVALID_SYMBOL: Final = b'{"code":-1121,"msg":"Invalid symbol."}'
"""The exchange's own answer, which the earlier gateway passed on."""


def text_of(query: MultiMapping[str], name: str) -> str:
    """Return the first value of a parameter without the spaces around it; empty without one."""
    return query.get(name, "").strip()


def clamped(query: MultiMapping[str], name: str, default: int, least: int, most: int) -> int:
    """Return a whole number, clamped to its bounds; the default for anything else."""
    text = query.get(name, "")
    return min(most, max(least, int(text))) if _INTEGER.fullmatch(text) else default


def json_response(body: Any, status: int = 200) -> web.Response:
    """body: a value, or JSON already."""
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    return web.Response(body=text, status=status, content_type="application/json")


class AlertsEndpoint:
    """GET /api/alerts"""

    def __init__(self, history: AlertHistory) -> None:
        self._history = history

    async def get(self, request: web.Request) -> web.Response:
        query = request.query
        symbol, rule_type = text_of(query, "symbol"), text_of(query, "rule_type")
        limit = clamped(query, "limit", 100, 1, 500)
        if (symbol and not is_symbol(symbol)) or (rule_type and not RULE_TYPE.fullmatch(rule_type)):
            # no alert can have it
            return json_response(b"[]")
        wanted = AlertFilter(
            symbols=[symbol] if symbol else None,
            rule_types=[rule_type] if rule_type else None,
            since_ms=_since_ms(query),
        )
        try:
            page = await self._history.page(wanted, limit, None)
        except HistoryUnavailable:
            raise unavailable("the alert history") from None
        return json_response([alert_document(alert.as_dict()) for alert in page.alerts])


def _since_ms(query: MultiMapping[str]) -> int | None:
    try:
        return Parameters(query, tuple(query)).time_ms("since")
    except RequestError:
        return None


class MetricsEndpoint:
    """GET /api/metrics/ and /api/metrics/{symbol}"""

    def __init__(self, latest: LatestMetrics) -> None:
        self._latest = latest

    async def get_all(self, _: web.Request) -> web.Response:
        return web.Response(body=self._pieces(self._latest.symbols()), content_type="application/json")

    async def redirect(self, request: web.Request) -> web.Response:
        location = str(request.rel_url.with_path("/api/metrics/", keep_query=True))
        return web.Response(status=301, headers={hdrs.LOCATION: location})

    async def get_one(self, request: web.Request) -> web.Response:
        symbol = request.match_info["symbol"].strip().upper()
        row = self._latest.row(symbol)
        timeframes = {} if row is None else _timeframes(row, changes=False)
        if row is None or not timeframes:
            raise RequestError(404, "not_found", "no metrics found for symbol")
        time = rfc3339(row.event_ts_ms)
        return json_response({"symbol": symbol, "timestamp": time, "timeframes": timeframes})

    async def _pieces(self, symbols: Sequence[str]) -> AsyncIterator[bytes]:
        """Yield values as they are when the client reads them; a pause after each piece lets other tasks run."""
        piece, separator = bytearray(b"["), b""
        for symbol in symbols:
            row = self._latest.row(symbol)
            timeframes = {} if row is None else _timeframes(row, changes=True)
            if row is None or not timeframes:
                continue
            time = {"time": rfc3339(row.event_ts_ms)}
            timed = {name: time | values for name, values in timeframes.items()}
            piece += separator + orjson.dumps({"symbol": symbol, "timeframes": timed})
            separator = b","
            if len(piece) >= _PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
                await asyncio.sleep(0)
        yield bytes(piece + b"]")


def _timeframes(row: LatestRow, *, changes: bool) -> dict[str, dict[str, object]]:
    def value(column: str) -> float | None:
        found = row.values[COLUMN_POSITION[column]]
        return None if math.isnan(found) else found

    return timeframe_documents(value, changes=changes)


class TickersEndpoint:
    """GET /api/tickers"""

    def __init__(self, store: TickerStore) -> None:
        self._tickers = FreshTickers(store, ticker_json)

    async def get(self, request: web.Request) -> web.Response:
        known = await self._tickers.encoded()
        asked = text_of(request.query, "symbols")
        if not asked:
            return json_response(b"[%b]" % b",".join(known.values()))
        names = dict.fromkeys(name.strip().upper() for name in asked.split(",")[:_MOST_SYMBOLS])
        return json_response(b"[%b]" % b",".join(known[name] for name in names if name in known))


class KlinesEndpoint:
    """GET /api/klines"""

    def __init__(self, database: Database, latest: LatestMetrics) -> None:
        self._database = database
        self._latest = latest

    async def get(self, request: web.Request) -> web.Response:
        symbol, name = text_of(request.query, "symbol").upper(), text_of(request.query, "interval")
        limit = clamped(request.query, "limit", 500, 1, 1500)
        if not symbol:
            raise RequestError(400, "invalid_request", "symbol is required")
        if name not in INTERVALS:
            raise RequestError(400, "invalid_request", "invalid interval")
        if not is_symbol(symbol):
            return json_response(_INVALID_SYMBOL, 400)
        try:
            async with self._database.connection("klines") as connection:
                found = await klines(
                    connection, symbol, INTERVALS[name], limit, metrics=self._database.metrics
                )
        except HistoryUnavailable:
            raise unavailable("the stored candles") from None
        if found is None and symbol not in self._latest:
            return json_response(_INVALID_SYMBOL, 400)
        return json_response(exchange_arrays(found or ()))
