"""The REST answers: alert history from SQL, latest metrics from memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import orjson
from aiohttp import web

from app.database.queries import AlertFilter
from app.errors import BadInput
from app.market.timeframes import TIMEFRAMES
from app.rules.rule import SEVERITIES
from app.sidecar.answers import conditional_json
from app.sidecar.history import AlertHistory, HistoryUnavailable
from app.sidecar.latest import LatestMetrics
from app.sidecar.metrics_json import FIELD_NAMES, EncodedMetrics, MetricsLayout
from app.sidecar.parameters import RULE_TYPE, SYMBOL, Parameters
from app.sidecar.problems import bad_parameter, unavailable, unknown_symbol

DEFAULT_LIMIT: Final = 100
MOST_ALERTS: Final = 1000
_SYMBOLS_AT_ONCE: Final = 25
_ALERT_PARAMETERS: Final = ("symbol", "rule_type", "severity", "since", "until", "limit", "cursor", "format")


class AlertsEndpoint:
    """GET /api/alerts"""

    def __init__(self, history: AlertHistory) -> None:
        self._history = history

    async def get(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, _ALERT_PARAMETERS)
        wanted = self._filter(parameters)
        limit = parameters.whole_number("limit", least=1, most=MOST_ALERTS) or DEFAULT_LIMIT
        bare = parameters.choice("format", ("object", "array")) == "array"
        try:
            page = await self._history.page(wanted, limit, parameters.text("cursor"))
        except BadInput:
            raise bad_parameter("cursor", "must be the next_cursor of an earlier page") from None
        except HistoryUnavailable:
            raise unavailable("the alert history") from None
        body = page.alerts if bare else {"alerts": page.alerts, "next_cursor": page.next_cursor}
        return conditional_json(request, orjson.dumps(body))

    @staticmethod
    def _filter(parameters: Parameters) -> AlertFilter:
        since_ms, until_ms = parameters.time_ms("since"), parameters.time_ms("until")
        if since_ms is not None and until_ms is not None and since_ms > until_ms:
            raise bad_parameter("since", "must not be after until")
        return AlertFilter(
            symbols=parameters.words("symbol", SYMBOL, "a symbol such as BTCUSDT") or None,
            rule_types=parameters.words("rule_type", RULE_TYPE, "a rule such as futures_pioneer_bull")
            or None,
            severities=parameters.choices("severity", SEVERITIES) or None,
            since_ms=since_ms,
            until_ms=until_ms,
        )


class MetricsEndpoint:
    """GET /api/metrics and /api/metrics/{symbol}"""

    def __init__(self, latest: LatestMetrics) -> None:
        self._latest = latest
        self._encoded = EncodedMetrics(latest)

    async def get_one(self, request: web.Request) -> web.Response:
        layout = self._layout(Parameters(request.query, ("timeframe", "field")))
        encoded = self._encode(request.match_info["symbol"], layout)
        if encoded is None:
            raise unknown_symbol()
        return conditional_json(request, encoded)

    async def get_all(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, ("symbol", "timeframe", "field"))
        layout = self._layout(parameters)
        symbols: Sequence[str] = parameters.words("symbol", SYMBOL, "a symbol such as BTCUSDT")
        if not all(symbol in self._latest for symbol in symbols):
            raise unknown_symbol()
        found = []
        for i, symbol in enumerate(symbols or self._latest.symbols()):
            found.append(self._encode(symbol, layout) or b"null")
            if i % _SYMBOLS_AT_ONCE == 0:
                # hundreds of symbols take long enough to hold up the alerts of WebSocket clients
                await asyncio.sleep(0)
        return conditional_json(request, b'{"metrics":[' + b",".join(found) + b"]}")

    @staticmethod
    def _layout(parameters: Parameters) -> MetricsLayout | None:
        timeframes = parameters.choices("timeframe", tuple(TIMEFRAMES))
        fields = parameters.choices("field", FIELD_NAMES)
        return MetricsLayout(timeframes, fields) if timeframes or fields else None

    def _encode(self, symbol: str, layout: MetricsLayout | None) -> bytes | None:
        if layout is None:
            return self._encoded.of(symbol)
        row = self._latest.row(symbol)
        return None if row is None else layout.encode(row)
