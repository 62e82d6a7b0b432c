"""GET /api/klines: candles of any interval, in the exchanges' form of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import orjson
from aiohttp import web

from app.candles.intervals import INTERVALS
from app.candles.symbols import is_symbol
from app.database.candles.kline_rows import Kline, shortest_texts
from app.database.candles.klines import klines
from app.sidecar.http.parameters import Parameters
from app.sidecar.http.problems import bad_parameter, missing_parameter, unavailable, unknown_symbol
from app.sidecar.http.responses import conditional_json
from app.sidecar.state.database import Database, HistoryUnavailable
from app.sidecar.state.latest import LatestMetrics

DEFAULT_LIMIT: Final = 500
MOST_BARS: Final = 1500
_PARAMETERS: Final = ("symbol", "interval", "limit", "since", "until", "startTime", "endTime")
_UNKNOWN: Final = "0"
"""Stands for taker volumes that the exchange does not give: readers expect numbers there."""


class KlinesEndpoint:
    def __init__(self, database: Database, latest: LatestMetrics) -> None:
        self._database = database
        self._latest = latest

    async def get(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, _PARAMETERS)
        symbol = parameters.word("symbol", is_symbol, "a symbol such as BTCUSDT")
        name = parameters.choice("interval", tuple(INTERVALS))
        if symbol is None or name is None:
            raise missing_parameter("symbol" if symbol is None else "interval")
        limit = parameters.whole_number("limit", least=1, most=MOST_BARS) or DEFAULT_LIMIT
        since_ms, until_ms = self._range(parameters)
        try:
            async with self._database.connection("klines") as connection:
                found = await klines(
                    connection, symbol, INTERVALS[name], limit, since_ms, until_ms, self._database.metrics
                )
        except HistoryUnavailable:
            raise unavailable("the stored candles") from None
        if found is None and symbol not in self._latest:
            raise unknown_symbol()
        return conditional_json(request, orjson.dumps(exchange_arrays(found or ())))

    @staticmethod
    def _range(parameters: Parameters) -> tuple[int | None, int | None]:
        """Return the range of open times: since <= open < until. The exchange's names, startTime and endTime, take UTC
        ms, and endTime is inclusive."""
        since_ms, until_ms = parameters.time_ms("since"), parameters.time_ms("until")
        start_ms = parameters.whole_number("startTime", least=0, most=10**15)
        end_ms = parameters.whole_number("endTime", least=0, most=10**15)
        for given, other, name in ((since_ms, start_ms, "startTime"), (until_ms, end_ms, "endTime")):
            if given is not None and other is not None:
                raise bad_parameter(name, "conflicts with since and until: use one form")
        since_ms = start_ms if since_ms is None else since_ms
        until_ms = end_ms + 1 if end_ms is not None else until_ms
        if since_ms is not None and until_ms is not None and since_ms > until_ms:
            raise bad_parameter("since" if start_ms is None else "startTime", "must not be after the end")
        return since_ms, until_ms


def exchange_arrays(klines: Sequence[Kline]) -> list[list[int | str]]:
    """Return one array for each bar: times and trades as numbers, all other values as text without an exponent."""
    if not klines:
        return []
    opened, closed, *prices, volume, quote_volume, trades, taker, taker_quote = zip(*klines, strict=True)
    columns = (
        opened,
        *([_plain(text) for text in shortest_texts(price)] for price in prices),
        [_plain(str(value)) for value in volume],
        closed,
        [_plain(str(value)) for value in quote_volume],
        trades,
        *(
            [_UNKNOWN if value is None else _plain(str(value)) for value in one]
            for one in (taker, taker_quote)
        ),
    )
    return [[*values, "0"] for values in zip(*columns, strict=True)]


def _plain(text: str) -> str:
    """Return the number with all its digits, without an exponent."""
    return format(Decimal(text), "f") if "e" in text or "E" in text else text
