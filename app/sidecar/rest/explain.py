"""GET /api/explain: every clause of a rule with its value, threshold and margin, now or at a minute of history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from aiohttp import web

from app.backtest.explain_at import (
    explain_at,
    explain_now,
    explain_over_market,
    history_at,
    minutes_needed,
    settling_minutes,
)
from app.candles.batch import MINUTE_MS, CandleBatch
from app.candles.symbols import is_symbol
from app.database.alert_history import AlertFilter, alerts_page
from app.database.candles.minutes import load_minutes
from app.errors import RuleError, ScreenerError
from app.market.fields import METRIC_COLUMNS
from app.rules.alert import Alert, alert_at
from app.rules.explain import Clause, Values, explain, explain_alert, explain_inputs, values_of
from app.rules.language.walks import previous_depth, uses_time
from app.rules.rule import Rule
from app.rules.screen import values_over_all
from app.sidecar.http.parameters import RULE_TYPE, Parameters
from app.sidecar.http.problems import RequestError, missing_parameter, unavailable, unknown_symbol
from app.sidecar.http.responses import private_json
from app.sidecar.live.alert_log import AlertLog
from app.sidecar.state.database import Database, HistoryUnavailable
from app.sidecar.state.latest import LatestMetrics, LatestRow
from app.sidecar.state.rules import RuleList, RuleStates
from app.sidecar.state.sealed_market import SealedMarket
from app.times import rfc3339

_MOST_WAITING: Final = 8
_ALERTS_NEAR: Final = 8
"""Alerts to read: enough to go back from `_LATE_MS` after a minute to the alert before it."""
_LATE_MS: Final = 2 * MINUTE_MS
"""How long after its minute an alert's timestamp, which is the exchange's time, may lie."""
_MOST_MARKET_CANDLES: Final = 500_000
"""Candles of all symbols for one explanation: they take some seconds."""
_NO_VALUES_KEPT: Final = (
    "The alert kept no values: these are the values of the closed minute, not of the update that fired."
)


@dataclass(frozen=True, slots=True)
class _Explained:
    """The explanation of a minute. `alert`: the alert of this minute, if there is one."""

    open_time_ms: int
    closed: bool
    source: str
    clause: Clause
    alert: Alert | None = None


class ExplainEndpoint:
    """Computes a minute of history again from its candles, one request at a time, in a thread."""

    def __init__(
        self,
        database: Database,
        latest: LatestMetrics,
        rules: RuleList,
        states: RuleStates,
        alerts: AlertLog,
        sealed: SealedMarket,
    ) -> None:
        self._database = database
        self._latest = latest
        self._rules = rules
        self._states = states
        self._alerts = alerts
        self._sealed = sealed
        self._computing = asyncio.Semaphore(1)
        self._waiting = 0

    async def get(self, request: web.Request) -> web.Response:
        parameters = Parameters(request.query, ("symbol", "rule", "at"))
        symbol = parameters.word("symbol", is_symbol, "a symbol such as BTCUSDT")
        rule_type = parameters.word("rule", RULE_TYPE.fullmatch, "a rule such as futures_pioneer_bull")
        at_ms = parameters.time_ms("at")
        if symbol is None or rule_type is None:
            raise missing_parameter("symbol" if symbol is None else "rule")
        rule = await self._rules.find(rule_type)
        if self._states.reason_here(rule) is not None:
            raise _rule_failed(rule)
        try:
            near = [] if at_ms is None else await self._alerts_near(rule, symbol, at_ms)
            of_then = None if at_ms is None else alert_at(near, at_ms)
            if of_then is None:
                explained = await self._explain(rule, symbol, at_ms)
            else:
                explained = await self._explain_alert(rule, symbol, *of_then)
            if at_ms is None:
                near = await self._alerts_near(rule, symbol, explained.open_time_ms)
        except HistoryUnavailable:
            raise unavailable("the stored candles and alerts") from None
        return private_json(orjson.dumps(_answer(rule, symbol, explained, near)))

    async def _explain(self, rule: Rule, symbol: str, at_ms: int | None) -> _Explained:
        """Explain a minute; without a time, the latest one from the values in memory, which may not be stored yet."""
        row = self._latest.row(symbol)
        open_time_ms = None if at_ms is None else at_ms // MINUTE_MS * MINUTE_MS
        if rule.looks_at_market:
            return await self._over_market(rule, symbol, open_time_ms)
        if row is not None and (open_time_ms is None or row.open_time_ms == open_time_ms):
            clause = await self._explain_latest(rule, row)
            return _Explained(row.open_time_ms, row.closed, "memory", clause)
        if open_time_ms is None:
            raise unknown_symbol()
        candles = await self._candles(rule, symbol, open_time_ms)
        try:
            clause = await self._compute(rule, explain_at, rule, candles, open_time_ms)
        except RuleError:
            raise RequestError(404, "unknown_minute", "this minute has no candle") from None
        return _Explained(open_time_ms, True, "history", clause)

    async def _over_market(self, rule: Rule, symbol: str, open_time_ms: int | None) -> _Explained:
        """Explain a rule that looks at all symbols; without a time, at the last sealed minute."""
        sealed, condition = self._sealed.minute, rule.condition()
        if open_time_ms is None and sealed is not None:
            rows = sealed.rows
            open_time_ms = int(rows.open_time_ms[0])
            if symbol in rows.symbols and not previous_depth(condition):
                over_all = values_over_all([condition], sealed)
                values = values_of(rows, rows.symbols.index(symbol))
                seen = values | {text: known[symbol] for text, known in over_all.items()}
                clause = await self._compute(rule, explain_inputs, condition, seen)
                return _Explained(open_time_ms, True, "memory", clause)
        if open_time_ms is None:
            raise unknown_symbol()
        symbols, minutes = tuple(self._latest.symbols()), settling_minutes(condition) + 1
        if len(symbols) * minutes > _MOST_MARKET_CANDLES:
            raise RequestError(
                400, "too_much_history",
                f"this takes {minutes:,} minutes of {len(symbols):,} symbols: use `screener explain`",
            )  # fmt: skip
        since_ms, until_ms = max(0, open_time_ms - minutes * MINUTE_MS), open_time_ms + MINUTE_MS
        async with self._database.connection("minutes") as connection:
            candles = await load_minutes(connection, symbols, since_ms, until_ms, self._database.metrics)
        try:
            _, clause = await self._compute(rule, explain_over_market, rule, [candles], symbol, open_time_ms)
        except RuleError:
            raise RequestError(404, "unknown_minute", "this minute has no candle") from None
        return _Explained(open_time_ms, True, "history", clause)

    async def _explain_alert(self, rule: Rule, symbol: str, alert: Alert, open_time_ms: int) -> _Explained:
        """Explain an alert from the values that its rule saw, or, without them, like any minute."""
        clause = explain_alert(alert)
        if clause is None:
            return replace(await self._explain(rule, symbol, open_time_ms), alert=alert)
        closed = alert.timestamp >= rfc3339(open_time_ms + MINUTE_MS)
        return _Explained(open_time_ms, closed, "alert", clause, alert)

    async def _explain_latest(self, rule: Rule, row: LatestRow) -> Clause:
        condition = rule.condition()
        if uses_time(condition):
            candles = await self._candles(rule, row.symbol, row.open_time_ms - MINUTE_MS)
            over_time: Clause = await self._compute(rule, explain_now, condition, candles, row.as_batch())
            return over_time
        history = [*await self._before(rule, row), _values(row)]
        clause: Clause = await self._compute(rule, explain, rule, history)
        return clause

    async def _before(self, rule: Rule, row: LatestRow) -> list[Values]:
        """Return the minutes before the one in memory, as far as the rule looks back."""
        condition = rule.condition()
        depth = previous_depth(condition)
        if not depth:
            return []
        before_ms = row.open_time_ms - MINUTE_MS
        candles = await self._candles(rule, row.symbol, before_ms)
        found: list[Values] = await self._compute(rule, history_at, condition, candles, before_ms, depth)
        return found

    async def _candles(self, rule: Rule, symbol: str, open_time_ms: int) -> CandleBatch:
        since_ms = max(0, open_time_ms - minutes_needed(rule.condition()) * MINUTE_MS)
        async with self._database.connection("minutes") as connection:
            until_ms = open_time_ms + MINUTE_MS
            return await load_minutes(connection, (symbol,), since_ms, until_ms, self._database.metrics)

    async def _compute(self, rule: Rule, function: Any, *arguments: Any) -> Any:
        """Run a function in a thread. An error of the rule affects only the rule and its caller: see `RuleStates`."""
        if self._waiting >= _MOST_WAITING:
            raise RequestError(503, "busy", "too many explanations at once; retry", {"Retry-After": "2"})
        self._waiting += 1
        try:
            async with self._computing:
                return await asyncio.to_thread(function, *arguments)
        except (ScreenerError, MemoryError):
            raise
        except Exception as error:
            self._states.failed_here(rule, error)
            raise _rule_failed(rule) from error
        finally:
            self._waiting -= 1

    async def _alerts_near(self, rule: Rule, symbol: str, at_ms: int) -> list[Alert]:
        """Return the rule's alerts of the symbol from shortly after the minute of `at_ms` back to the alert before it,
        newest first; also alerts that are not stored yet."""
        until_ms = at_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS + _LATE_MS
        wanted = AlertFilter(symbols=(symbol,), rule_types=(rule.rule_type,), until_ms=until_ms, shadow=None)
        async with self._database.connection("alerts_page") as connection:
            stored = (
                await alerts_page(connection, wanted, _ALERTS_NEAR, metrics=self._database.metrics)
            ).alerts
        known = {alert.id for alert in stored}
        newest = self._alerts.newest_of(symbol, rule.rule_type, _ALERTS_NEAR)
        waiting = [Alert.from_dict(orjson.loads(one.payload)) for one in newest if one.id not in known]
        near = [*stored, *(alert for alert in waiting if alert.timestamp < rfc3339(until_ms))]
        return sorted(near, key=lambda alert: alert.timestamp, reverse=True)[:_ALERTS_NEAR]


def _rule_failed(rule: Rule) -> RequestError:
    return RequestError(
        500, "rule_failed", f"rule {rule.rule_type} cannot be evaluated, and is off until it is edited"
    )


def _values(row: LatestRow) -> Values:
    return dict(zip(METRIC_COLUMNS, row.values, strict=True))


def _answer(rule: Rule, symbol: str, explained: _Explained, near: Sequence[Alert]) -> dict[str, object]:
    clause, minute = explained.clause, explained.open_time_ms
    minutes = [(alert, alert.minute_ms) for alert in near]
    fired = explained.alert or next((alert for alert, of in minutes if of == minute), None)
    last = next((alert for alert, of in minutes if of is None or of <= minute), None)
    of_alert = explained.alert if explained.source == "alert" else None
    return {
        "symbol": symbol,
        "rule_type": rule.rule_type,
        "rule_version": of_alert.rule_version if of_alert else rule.version,
        "expression": of_alert.seen["expression"] if of_alert and of_alert.seen else rule.expression,
        "minute": rfc3339(minute),
        "closed": explained.closed,
        "source": explained.source,
        "verdict": _verdict(clause, explained, fired is not None),
        "truth": clause.truth,
        "clause": clause.as_dict(),
        "missing": [part.as_dict() for part in clause.failing()],
        "alert": None if fired is None else fired.as_dict(),
        "last_alert": None if last is None else last.as_dict(),
        "cooldown_s": rule.cooldown_s,
        "enabled": rule.enabled,
        "applies": rule.symbols is None or symbol in rule.symbols,
        "note": _NO_VALUES_KEPT if explained.alert is not None and of_alert is None else None,
    }


def _verdict(clause: Clause, explained: _Explained, fired: bool) -> str:
    """Return the verdict. held_back: the condition is true without an alert, because of the rule's cooldown or hold, or
    because the rule is off or not for the symbol. State in memory may have changed since the minute's alert: then the
    current condition counts."""
    if fired and (clause.truth or explained.source != "memory" or explained.alert is not None):
        return "fired"
    return {True: "held_back", False: "not_met", None: "unknown"}[clause.truth]
