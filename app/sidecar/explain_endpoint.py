"""GET /api/explain: every clause of a rule with its value, threshold and margin, now or at a minute of history."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import web

from app.backtest.explain_at import explain_at, history_at, minutes_needed
from app.candles.batch import MINUTE_MS, CandleBatch
from app.database.queries import AlertFilter, alerts_page, load_minutes
from app.errors import RuleError
from app.market.columns import METRIC_COLUMNS
from app.rules.alert import alert_id
from app.rules.explain import Clause, Values, explain
from app.rules.rule import Rule
from app.rules.tree import previous_depth
from app.sidecar.answers import private_json
from app.sidecar.database import Database, HistoryUnavailable
from app.sidecar.known_rules import KnownRules
from app.sidecar.latest import LatestMetrics, LatestRow
from app.sidecar.parameters import RULE_TYPE, SYMBOL, Parameters
from app.sidecar.problems import RequestError, missing_parameter, unavailable, unknown_symbol
from app.sidecar.times import rfc3339

_MOST_WAITING: Final = 8
_ALERTS_NEAR: Final = 2
"""The next minute's may bear the time at which this one ends."""


@dataclass(frozen=True, slots=True)
class _Explained:
    open_time_ms: int
    closed: bool
    source: str
    clause: Clause


class ExplainEndpoint:
    """A minute of history is computed again from its candles, one request at a time, beside the event loop."""

    def __init__(self, database: Database, latest: LatestMetrics, rules: KnownRules) -> None:
        self._database = database
        self._latest = latest
        self._rules = rules
        self._computing = asyncio.Semaphore(1)
        self._waiting = 0

    async def get(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, ("symbol", "rule", "at"))
        symbol = parameters.word("symbol", SYMBOL, "a symbol such as BTCUSDT")
        rule_type = parameters.word("rule", RULE_TYPE, "a rule such as futures_pioneer_bull")
        at_ms = parameters.time_ms("at")
        if symbol is None or rule_type is None:
            raise missing_parameter("symbol" if symbol is None else "rule")
        rule = await self._rules.find(rule_type)
        try:
            explained = await self._explain(rule, symbol, at_ms)
            near = await self._alerts_near(rule, symbol, explained.open_time_ms)
        except HistoryUnavailable:
            raise unavailable("the stored candles and alerts") from None
        return private_json(orjson.dumps(_answer(rule, symbol, explained, near)))

    async def _explain(self, rule: Rule, symbol: str, at_ms: int | None) -> _Explained:
        """Without a time: the values in memory, which are also those of a minute not stored yet."""
        row = self._latest.row(symbol)
        open_time_ms = None if at_ms is None else at_ms // MINUTE_MS * MINUTE_MS
        if row is not None and (open_time_ms is None or row.open_time_ms == open_time_ms):
            clause = explain(rule, [*await self._before(rule, row), _values(row)])
            return _Explained(row.open_time_ms, row.closed, "memory", clause)
        if open_time_ms is None:
            raise unknown_symbol()
        candles = await self._candles(rule, symbol, open_time_ms)
        try:
            clause = await self._compute(explain_at, rule, candles, open_time_ms)
        except RuleError:
            raise RequestError(404, "unknown_minute", "no candle of this minute is known") from None
        return _Explained(open_time_ms, True, "history", clause)

    async def _before(self, rule: Rule, row: LatestRow) -> list[Values]:
        """The minutes before the one in memory, as far as the rule looks back."""
        condition = rule.condition()
        depth = previous_depth(condition)
        if not depth:
            return []
        before_ms = row.open_time_ms - MINUTE_MS
        candles = await self._candles(rule, row.symbol, before_ms)
        found: list[Values] = await self._compute(history_at, condition, candles, before_ms, depth)
        return found

    async def _candles(self, rule: Rule, symbol: str, open_time_ms: int) -> CandleBatch:
        since_ms = max(0, open_time_ms - minutes_needed(rule.condition()) * MINUTE_MS)
        async with self._database.connection("minutes") as connection:
            return await load_minutes(connection, (symbol,), since_ms, open_time_ms + MINUTE_MS)

    async def _compute(self, function: Any, *arguments: Any) -> Any:
        if self._waiting >= _MOST_WAITING:
            raise RequestError(503, "busy", "too many explanations at once; try again", {"Retry-After": "2"})
        self._waiting += 1
        try:
            async with self._computing:
                return await asyncio.to_thread(function, *arguments)
        finally:
            self._waiting -= 1

    async def _alerts_near(self, rule: Rule, symbol: str, open_time_ms: int) -> list[dict[str, Any]]:
        """The rule's newest alerts of the symbol up to the end of the minute, newest first."""
        end_ms = open_time_ms + MINUTE_MS
        wanted = AlertFilter(symbols=(symbol,), rule_types=(rule.rule_type,), until_ms=end_ms + 1)
        async with self._database.connection("alerts_page") as connection:
            return (await alerts_page(connection, wanted, _ALERTS_NEAR)).alerts


def _values(row: LatestRow) -> Values:
    return dict(zip(METRIC_COLUMNS, row.values, strict=True))


def _answer(rule: Rule, symbol: str, explained: _Explained, near: list[dict[str, Any]]) -> dict[str, Any]:
    clause = explained.clause
    identifier = alert_id(rule.rule_type, rule.version, symbol, explained.open_time_ms)
    fired = next((alert for alert in near if alert["id"] == identifier), None)
    return {
        "symbol": symbol,
        "rule_type": rule.rule_type,
        "rule_version": rule.version,
        "expression": rule.expression,
        "minute": rfc3339(explained.open_time_ms),
        "closed": explained.closed,
        "source": explained.source,
        "verdict": _verdict(clause, fired is not None),
        "truth": clause.truth,
        "clause": clause.as_dict(),
        "missing": [part.as_dict() for part in clause.failing()],
        "alert": fired,
        "last_alert": near[0] if near else None,
        "cooldown_s": rule.cooldown_s,
        "enabled": rule.enabled,
        "applies": rule.symbols is None or symbol in rule.symbols,
    }


def _verdict(clause: Clause, fired: bool) -> str:
    """held_back: true without an alert, for its cooldown, its hold, or because it is off or not for the symbol."""
    if fired:
        return "fired"
    return {True: "held_back", False: "not_met", None: "unknown"}[clause.truth]
