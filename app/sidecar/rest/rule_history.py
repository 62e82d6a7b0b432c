"""GET /api/rules/{rule_type}/versions and /api/rule-activity: the versions of rules, and how often they fire."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import orjson
from aiohttp import web

from app.clock import Clock
from app.database.rule_history import rule_activity, rule_versions
from app.sidecar.http.parameters import RULE_TYPE, Parameters
from app.sidecar.http.problems import unavailable, unknown_rule
from app.sidecar.http.responses import conditional_json
from app.sidecar.state.database import Database, HistoryUnavailable
from app.times import rfc3339, utc_ms

DEFAULT_HOURS: Final = 24
MOST_HOURS: Final = 168
_HOUR_MS: Final = 3_600_000
_STEP_MS: Final = 60_000
"""The span begins at a full minute, so that an answer that has not changed has the same ETag."""


class RuleHistoryEndpoint:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def versions(self, request: web.Request) -> web.Response:
        Parameters(request.query, ())
        name = request.match_info["rule_type"]
        if not RULE_TYPE.fullmatch(name):
            raise unknown_rule()
        try:
            async with self._database.connection("rule_versions") as connection:
                found = await rule_versions(connection, name)
        except HistoryUnavailable:
            raise unavailable("the rules") from None
        if not found:
            raise unknown_rule()
        versions = [
            {
                "version": one.version,
                "expression": one.expression,
                "mode": one.mode,
                "hold_s": one.hold_s,
                "stored_at": _time(one.stored_at),
            }
            for one in found
        ]
        return conditional_json(request, orjson.dumps({"versions": versions}))

    async def activity(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, ("hours",))
        hours = parameters.whole_number("hours", least=1, most=MOST_HOURS) or DEFAULT_HOURS
        since_ms = self._clock.now_ms() // _STEP_MS * _STEP_MS - hours * _HOUR_MS
        try:
            async with self._database.connection("rule_activity") as connection:
                found = await rule_activity(connection, since_ms)
        except HistoryUnavailable:
            raise unavailable("the alert history") from None
        rules = {
            one.rule_type: {
                "fired": one.fired,
                "last": None
                if one.time is None
                else {"time": _time(one.time), "symbol": one.symbol, "price": one.price},
            }
            for one in found
        }
        return conditional_json(request, orjson.dumps({"since": rfc3339(since_ms), "rules": rules}))


def _time(moment: datetime) -> str:
    return rfc3339(utc_ms(moment))
