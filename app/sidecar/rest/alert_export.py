"""GET /api/alert-export: the alerts of a filter as one file, sent while it is read from the database."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

import orjson
from aiohttp import web

from app.database.alert_history import AlertFilter, AlertPage
from app.rules.alert import Alert
from app.sidecar.http.parameters import Parameters
from app.sidecar.http.problems import RequestError, unavailable
from app.sidecar.rest.alerts_and_metrics import FILTER_PARAMETERS, alert_filter
from app.sidecar.state.alert_history import AlertHistory
from app.sidecar.state.database import HistoryUnavailable

DEFAULT_LIMIT: Final = 10_000
MOST_ALERTS: Final = 100_000
_PAGE_ALERTS: Final = 1_000
_MOST_AT_ONCE: Final = 4
_COLUMNS: Final = (
    "timestamp",
    "symbol",
    "rule_type",
    "rule_version",
    "severity",
    "price",
    "description",
    "backfilled",
    "seq",
    "id",
)
_METRICS: Final = (
    "price_change_5m",
    "price_change_15m",
    "price_change_1h",
    "volume_5m",
    "volume_1h",
    "rsi",
    "vcp",
)
"""The metrics in `metadata` that every alert has."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class AlertExportEndpoint:
    """Reads the first page before the answer begins, so that a database that is down gives an error answer."""

    def __init__(self, history: AlertHistory) -> None:
        self._history = history
        self._running = 0

    async def get(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, (*FILTER_PARAMETERS, "format", "limit"))
        wanted = alert_filter(parameters)
        limit = parameters.whole_number("limit", least=1, most=MOST_ALERTS) or DEFAULT_LIMIT
        as_csv = parameters.choice("format", ("csv", "json")) != "json"
        if self._running >= _MOST_AT_ONCE:
            raise RequestError(503, "busy", "too many exports at once; retry", {"Retry-After": "5"})
        try:
            first = await self._history.page(wanted, min(limit, _PAGE_ALERTS), None)
        except HistoryUnavailable:
            raise unavailable("the alert history") from None
        pages = self._pages(first, wanted, limit)
        response = web.Response(
            body=_csv(pages) if as_csv else _json(pages),
            content_type="text/csv" if as_csv else "application/json",
            charset="utf-8" if as_csv else None,
        )
        name = f"alerts.{'csv' if as_csv else 'json'}"
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _pages(
        self, first: AlertPage, wanted: AlertFilter, limit: int
    ) -> AsyncIterator[Sequence[Alert]]:
        """Yield the alerts of the filter, newest first, a page at a time."""
        self._running += 1
        try:
            page, left = first, limit
            while True:
                yield page.alerts
                left -= len(page.alerts)
                if page.next_cursor is None or left <= 0:
                    return
                page = await self._history.page(wanted, min(left, _PAGE_ALERTS), page.next_cursor)
        finally:
            self._running -= 1


async def _csv(pages: AsyncIterator[Sequence[Alert]]) -> AsyncIterator[bytes]:
    yield _lines([(*_COLUMNS, *_METRICS)])
    async for alerts in pages:
        yield _lines(map(_row, alerts))


def _lines(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _row(alert: Alert) -> list[object]:
    values = alert.as_dict()
    return [_cell(values[name]) for name in _COLUMNS] + [alert.metadata.get(name) for name in _METRICS]


def _cell(value: object) -> object:
    """Return the value; quote a text that a spreadsheet would compute as a formula, so that it is shown instead."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


async def _json(pages: AsyncIterator[Sequence[Alert]]) -> AsyncIterator[bytes]:
    separator = b"["
    async for alerts in pages:
        for alert in alerts:
            yield separator + orjson.dumps(alert.as_dict())
            separator = b","
    yield b"]" if separator == b"," else b"[]"
