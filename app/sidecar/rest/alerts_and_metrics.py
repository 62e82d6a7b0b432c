"""The REST answers: alert history from SQL, latest metrics from memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final
from uuid import uuid4

import orjson
from aiohttp import web

from app.candles.symbols import is_symbol
from app.database.alert_history import AlertFilter
from app.errors import BadInput
from app.market.timeframes import TIMEFRAMES
from app.rules.rule import SEVERITIES
from app.sidecar.http.parameters import RULE_TYPE, Parameters
from app.sidecar.http.problems import bad_parameter, unavailable, unknown_symbol
from app.sidecar.http.responses import conditional_json, etag_of
from app.sidecar.rest.metrics_json import FIELD_NAMES, EncodedMetrics, MetricsLayout, row_texts
from app.sidecar.state.alert_history import AlertHistory
from app.sidecar.state.database import HistoryUnavailable
from app.sidecar.state.latest import LatestMetrics

DEFAULT_LIMIT: Final = 100
MOST_ALERTS: Final = 1000
_PIECE_BYTES: Final = 64 * 1024
FILTER_PARAMETERS: Final = ("backfilled", "shadow", "symbol", "rule_type", "severity", "since", "until")
_ALERT_PARAMETERS: Final = (*FILTER_PARAMETERS, "limit", "cursor", "format")


def alert_filter(parameters: Parameters) -> AlertFilter:
    """Return the filter of FILTER_PARAMETERS. Raises RequestError 400."""
    since_ms, until_ms = parameters.time_ms("since"), parameters.time_ms("until")
    if since_ms is not None and until_ms is not None and since_ms > until_ms:
        raise bad_parameter("since", "must not be after until")
    return AlertFilter(
        symbols=parameters.words("symbol", is_symbol, "a symbol such as BTCUSDT") or None,
        rule_types=parameters.words("rule_type", RULE_TYPE.fullmatch, "a rule such as futures_pioneer_bull")
        or None,
        severities=parameters.choices("severity", SEVERITIES) or None,
        since_ms=since_ms,
        until_ms=until_ms,
        backfilled=parameters.flag("backfilled"),
        shadow=parameters.flag("shadow") is True,
    )


class AlertsEndpoint:
    """GET /api/alerts"""

    def __init__(self, history: AlertHistory) -> None:
        self._history = history

    async def get(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, _ALERT_PARAMETERS)
        wanted = alert_filter(parameters)
        limit = parameters.whole_number("limit", least=1, most=MOST_ALERTS) or DEFAULT_LIMIT
        bare = parameters.choice("format", ("object", "array")) == "array"
        try:
            page = await self._history.page(wanted, limit, parameters.text("cursor"))
        except BadInput:
            raise bad_parameter("cursor", "must be the next_cursor of an earlier page") from None
        except HistoryUnavailable:
            raise unavailable("the alert history") from None
        alerts = [alert.as_dict() for alert in page.alerts]
        body = alerts if bare else {"alerts": alerts, "next_cursor": page.next_cursor}
        return conditional_json(request, orjson.dumps(body))


class MetricsEndpoint:
    """GET /api/metrics and /api/metrics/{symbol}"""

    def __init__(self, latest: LatestMetrics) -> None:
        self._latest = latest
        self._encoded = EncodedMetrics(latest)
        self._instance = uuid4().bytes
        """Part of each ETag, because the versions of rows are only valid in this process."""

    async def get_one(self, request: web.Request) -> web.Response:
        layout = self._layout(Parameters(request.query, ("timeframe", "field")))
        encoded = self._encode(request.match_info["symbol"], layout)
        if encoded is None:
            raise unknown_symbol()
        return conditional_json(request, encoded)

    async def get_all(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, ("symbol", "timeframe", "field"))
        layout = self._layout(parameters)
        symbols: Sequence[str] = parameters.words("symbol", is_symbol, "a symbol such as BTCUSDT")
        if not all(symbol in self._latest for symbol in symbols):
            raise unknown_symbol()
        chosen = symbols or self._latest.symbols()
        query = orjson.dumps([sorted(request.query.items())])
        etag = etag_of(self._instance + query + self._latest.versions(chosen))
        return conditional_json(request, self._pieces(chosen, layout), etag)

    async def _pieces(self, symbols: Sequence[str], layout: MetricsLayout | None) -> AsyncIterator[bytes]:
        """Yield values as they are when the client reads them: for a slow reader we hold one piece, not all."""
        piece = [b'{"metrics":[']
        size = 0
        for i, symbol in enumerate(symbols):
            one = self._encode(symbol, layout) or b"null"
            piece += (b"," if i else b"", one)
            size += len(one)
            if size >= _PIECE_BYTES:
                yield b"".join(piece)
                piece, size = [], 0
                # hundreds of symbols take long enough to hold up the alerts of WebSocket clients
                await asyncio.sleep(0)
        yield b"".join((*piece, b"]}"))

    @staticmethod
    def _layout(parameters: Parameters) -> MetricsLayout | None:
        timeframes = parameters.choices("timeframe", tuple(TIMEFRAMES))
        fields = parameters.choices("field", FIELD_NAMES)
        return MetricsLayout(timeframes, fields) if timeframes or fields else None

    def _encode(self, symbol: str, layout: MetricsLayout | None) -> bytes | None:
        if layout is None:
            return self._encoded.of(symbol)
        row = self._latest.row(symbol)
        return None if row is None else layout.encode(*row_texts(row))
