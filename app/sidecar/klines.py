"""GET /api/klines: candles of any interval, in the arrays that exchanges give."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import orjson
from aiohttp import web

from app.candles.intervals import INTERVALS
from app.database.klines import Kline, klines
from app.sidecar.answers import conditional_json
from app.sidecar.database import Database, HistoryUnavailable
from app.sidecar.latest import LatestMetrics
from app.sidecar.parameters import SYMBOL, Parameters
from app.sidecar.problems import bad_parameter, missing_parameter, unavailable, unknown_symbol

DEFAULT_LIMIT: Final = 500
MOST_BARS: Final = 1500
_PARAMETERS: Final = ("symbol", "interval", "limit", "since", "until", "startTime", "endTime")
_NOT_STORED: Final = "0"
"""What stands for the volumes of takers, which the stored minutes do not have: readers expect numbers there."""


class KlinesEndpoint:
    def __init__(self, database: Database, latest: LatestMetrics) -> None:
        self._database = database
        self._latest = latest

    async def get(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, _PARAMETERS)
        symbol = parameters.word("symbol", SYMBOL, "a symbol such as BTCUSDT")
        name = parameters.choice("interval", tuple(INTERVALS))
        if symbol is None or name is None:
            raise missing_parameter("symbol" if symbol is None else "interval")
        limit = parameters.whole_number("limit", least=1, most=MOST_BARS) or DEFAULT_LIMIT
        since_ms, until_ms = self._range(parameters)
        try:
            async with self._database.connection("klines") as connection:
                found = await klines(connection, symbol, INTERVALS[name], limit, since_ms, until_ms)
        except HistoryUnavailable:
            raise unavailable("the stored candles") from None
        if found is None and symbol not in self._latest:
            raise unknown_symbol()
        return conditional_json(request, orjson.dumps([_array(one) for one in found or ()]))

    @staticmethod
    def _range(parameters: Parameters) -> tuple[int | None, int | None]:
        """Open times: since <= open < until. The exchange's names take UTC ms, and its end is inclusive."""
        since_ms, until_ms = parameters.time_ms("since"), parameters.time_ms("until")
        start_ms = parameters.whole_number("startTime", least=0, most=10**15)
        end_ms = parameters.whole_number("endTime", least=0, most=10**15)
        for given, other, name in ((since_ms, start_ms, "startTime"), (until_ms, end_ms, "endTime")):
            if given is not None and other is not None:
                raise bad_parameter(name, "says the same as since and until: give one of them")
        since_ms = start_ms if since_ms is None else since_ms
        until_ms = end_ms + 1 if end_ms is not None else until_ms
        if since_ms is not None and until_ms is not None and since_ms > until_ms:
            raise bad_parameter("since" if start_ms is None else "startTime", "must not be after the end")
        return since_ms, until_ms


def _array(kline: Kline) -> list[int | str]:
    return [
        kline.open_time_ms,
        _text(kline.open),
        _text(kline.high),
        _text(kline.low),
        _text(kline.close),
        _text(kline.volume),
        kline.close_time_ms,
        _text(kline.quote_volume),
        kline.trades,
        _NOT_STORED,
        _NOT_STORED,
        "0",
    ]


def _text(value: float) -> str:
    """All digits, without an exponent."""
    text = repr(value)
    return format(Decimal(text), "f") if "e" in text else text
