"""GET /api/screener: the symbols whose latest values satisfy an expression."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Final

import orjson
from aiohttp import web

from app.backtest.explain_at import screen_minutes
from app.candles.batch import MINUTE_MS, CandleBatch
from app.database.candles.minutes import load_minutes
from app.errors import RuleError
from app.market.fields import COLUMN_POSITION
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from app.rules.language.parser import condition_faults, number_faults, parse_condition, parse_number
from app.rules.language.walks import columns_of
from app.rules.screen import MarketMinute, Query, ScreenAnswer, ScreenedSymbol, values_over_all
from app.sidecar.http.parameters import Parameters
from app.sidecar.http.problems import (
    RequestError,
    bad_expression,
    bad_parameter,
    missing_parameter,
    unavailable,
)
from app.sidecar.http.responses import conditional_json
from app.sidecar.state.database import Database, HistoryUnavailable
from app.sidecar.state.latest import LatestMetrics
from app.sidecar.state.sealed_market import SealedMarket
from app.times import rfc3339

DEFAULT_LIMIT: Final = 100
_MOST_WAITING: Final = 4
MOST_SYMBOLS: Final = 1000
CURRENT_MS: Final = 5 * 60_000
"""A symbol without updates for this long, while others had some, is not part of the current market."""
_PRICE: Final = COLUMN_POSITION["close_1m"]


class ScreenerEndpoint:
    """A query that looks back reads the stored minutes, one request at a time, and computes in a thread."""

    def __init__(self, latest: LatestMetrics, database: Database, sealed: SealedMarket) -> None:
        self._latest = latest
        self._sealed = sealed
        self._database = database
        self._computing = asyncio.Semaphore(1)
        self._waiting = 0

    async def get(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, ("where", "sort", "order", "limit"))
        where, sort = parameters.text("where"), parameters.text("sort")
        order = parameters.choice("order", ("asc", "desc"))
        limit = parameters.whole_number("limit", least=1, most=MOST_SYMBOLS) or DEFAULT_LIMIT
        if where is None:
            raise missing_parameter("where")
        if order is not None and sort is None:
            raise bad_parameter("order", "needs sort")
        columns = _columns(where, sort)
        query = _query(where, sort)
        if query.looks_back:
            await self._look_back(query)
        market = self._latest.market(CURRENT_MS)
        sealed = self._sealed.minute
        minute = sealed or MarketMinute(market.take(slice(0, 0)))
        rows = query.rows(market, "asc" if order == "asc" else "desc", market=minute).tolist()
        if sort is None:
            rows.sort(key=market.symbol_of)
        over_all = values_over_all(query.nodes, minute)
        found = [_symbol(market, row, columns, over_all) for row in rows[:limit]]
        body: ScreenAnswer = {"symbols": found, "matched": len(rows), "evaluated": len(market)}
        if over_all:
            body["market_minute"] = None if sealed is None else rfc3339(int(sealed.rows.open_time_ms[0]))
        return conditional_json(request, orjson.dumps(body))

    async def _look_back(self, query: Query) -> None:
        """Show the query the stored minutes that it looks back at, one query at a time."""
        if self._waiting >= _MOST_WAITING:
            raise RequestError(503, "busy", "too many queries over time at once; retry", {"Retry-After": "2"})
        self._waiting += 1
        try:
            async with self._computing:
                market = self._latest.market(CURRENT_MS)
                if not len(market):
                    return
                until_ms = int(market.open_time_ms.max())
                since_ms = until_ms - screen_minutes(query.nodes) * MINUTE_MS
                async with self._database.connection("minutes") as connection:
                    candles = await load_minutes(
                        connection, market.symbols, since_ms, until_ms, self._database.metrics
                    )
                await asyncio.to_thread(_see, query, candles)
        except HistoryUnavailable:
            raise unavailable("the stored candles") from None
        finally:
            self._waiting -= 1


def _query(where: str, sort: str | None) -> Query:
    try:
        return Query(where, sort, over_minute=True)
    except RuleError as error:
        # both are well formed: one of them looks at all symbols in the past
        raise bad_expression("where" if sort is None else "where or sort", [error]) from None


def _see(query: Query, candles: CandleBatch) -> None:
    query.see(MarketMatrix(columns=query.columns).update(candles))


def _columns(where: str, sort: str | None) -> tuple[str, ...]:
    """Return the metrics that the query looks at, in order of appearance. Raises RequestError for an invalid query."""
    found = _parsed_columns("where", where)
    return tuple(dict.fromkeys(found + (_parsed_columns("sort", sort) if sort is not None else ())))


def _parsed_columns(name: str, text: str) -> tuple[str, ...]:
    if faults := (condition_faults if name == "where" else number_faults)(text):
        raise bad_expression(name, faults)
    return columns_of(parse_condition(text) if name == "where" else parse_number(text))


def _symbol(
    market: MetricsBatch, row: int, columns: Sequence[str], over_all: Mapping[str, Mapping[str, float]]
) -> ScreenedSymbol:
    values, symbol = market.values[row].tolist(), market.symbol_of(row)
    over_all_symbols = {text: known.get(symbol, math.nan) for text, known in over_all.items()}
    return {
        "symbol": symbol,
        "timestamp": rfc3339(int(market.event_ts_ms[row])),
        "price": values[_PRICE],
        "values": {name: values[COLUMN_POSITION[name]] for name in columns} | over_all_symbols,
    }
