"""GET /api/screener: the symbols whose latest values satisfy an expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
from aiohttp import web

from app.errors import RuleError
from app.market.columns import COLUMN_POSITION
from app.market.metrics import MetricsBatch
from app.rules.parser import parse_condition, parse_number
from app.rules.screen import screen
from app.rules.tree import columns_of, uses_previous
from app.sidecar.answers import conditional_json
from app.sidecar.latest import LatestMetrics
from app.sidecar.parameters import Parameters
from app.sidecar.problems import bad_expression, bad_parameter, missing_parameter
from app.sidecar.times import rfc3339

DEFAULT_LIMIT: Final = 100
MOST_SYMBOLS: Final = 1000
CURRENT_MS: Final = 5 * 60_000
"""A symbol not heard of for so long, when others were, is not part of the market now."""
_PRICE: Final = COLUMN_POSITION["close_1m"]


class ScreenerEndpoint:
    def __init__(self, latest: LatestMetrics) -> None:
        self._latest = latest

    async def get(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, ("where", "sort", "order", "limit"))
        where, sort = parameters.text("where"), parameters.text("sort")
        order = parameters.choice("order", ("asc", "desc"))
        limit = parameters.whole_number("limit", least=1, most=MOST_SYMBOLS) or DEFAULT_LIMIT
        if where is None:
            raise missing_parameter("where")
        if order is not None and sort is None:
            raise bad_parameter("order", "needs sort")
        market = self._latest.market(CURRENT_MS)
        columns = _columns(where, sort)
        try:
            rows = screen(market, where, sort, "asc" if order == "asc" else "desc").tolist()
        except RuleError as error:
            # both parts are well formed: one of them looks at the minute before
            faulty = "where" if uses_previous(parse_condition(where, universe=True)) else "sort"
            raise bad_expression(faulty, error) from None
        if sort is None:
            rows.sort(key=market.symbol_of)
        found = [_symbol(market, row, columns) for row in rows[:limit]]
        body = {"symbols": found, "matched": len(rows), "evaluated": len(market)}
        return conditional_json(request, orjson.dumps(body))


def _columns(where: str, sort: str | None) -> tuple[str, ...]:
    """The metrics that the query looks at, in order of appearance. Raises RequestError for a faulty one."""
    found = _parsed_columns("where", where)
    return tuple(dict.fromkeys(found + (_parsed_columns("sort", sort) if sort is not None else ())))


def _parsed_columns(name: str, text: str) -> tuple[str, ...]:
    try:
        parse = parse_condition if name == "where" else parse_number
        return columns_of(parse(text, universe=True))
    except RuleError as error:
        raise bad_expression(name, error) from None


def _symbol(market: MetricsBatch, row: int, columns: Sequence[str]) -> dict[str, Any]:
    values = market.values[row].tolist()
    return {
        "symbol": market.symbol_of(row),
        "timestamp": rfc3339(int(market.event_ts_ms[row])),
        "price": values[_PRICE],
        "values": {name: values[COLUMN_POSITION[name]] for name in columns},
    }
