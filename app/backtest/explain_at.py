"""Why a rule was true or not at a minute of history, from the candles that led up to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from app.backtest.backtest import Backtest, valid_history
from app.backtest.market_rules import MarketRules
from app.candles.batch import MINUTE_MS, CandleBatch
from app.candles.known_minutes import KnownMinutes
from app.errors import RuleError
from app.market.fields import PIVOT_FIELDS, WINDOW_FIELDS
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from app.market.timeframes import TIMEFRAMES
from app.rules.alert import Alert, alert_at
from app.rules.evaluation.inputs import inputs_of
from app.rules.evaluation.rulebook import RuleBook
from app.rules.explain import Clause, Values, explain, explain_inputs, values_of
from app.rules.language.tree import (
    ConditionNode,
    Crossing,
    Indicator,
    Lately,
    NumberNode,
    OverTime,
    Previous,
    WithReference,
)
from app.rules.language.walks import columns_of, minutes_back, previous_depth, uses_time, walk
from app.rules.rule import MODES, Rule
from app.times import rfc3339

_WEEK_MINUTES: Final = 7 * 1440
_LEAST_MINUTES: Final = 2 * 1440
_SETTLED_BARS: Final = 250
"""After so many bars an average over 50 keeps less than 1 in 10,000 of the bars before."""
_MOST_MINUTES: Final = 60 * 1440
_OF_THE_PAST: Final = (Previous, Crossing, OverTime, Lately, Indicator)


def explain_at(rule: Rule, candles: CandleBatch, open_time_ms: int) -> Clause:
    """Return the rule's condition for one symbol at the minute that opened at `open_time_ms`.

    candles: of that symbol alone, in order of time, beginning early enough for whole windows; candles after the
    minute are ignored. Raises RuleError if the minute has no candle.
    """
    if not np.any(candles.open_time_ms == open_time_ms):
        raise RuleError(f"no candle for the minute that opened at {open_time_ms} ms")
    condition = rule.condition()
    if uses_time(condition):
        return explain_inputs(
            condition, inputs_of(condition, [_rows_until(condition, candles, open_time_ms)])
        )
    return explain(rule, history_at(condition, candles, open_time_ms, previous_depth(condition) + 1))


def explain_now(condition: ConditionNode, candles: CandleBatch, now: MetricsBatch) -> Clause:
    """Return a condition over time at a minute that may be forming. candles: of its symbol, up to the minute before,
    as for `explain_at`. now: its row."""
    before = _rows_until(condition, candles, int(now.open_time_ms[0]) - MINUTE_MS)
    return explain_inputs(condition, inputs_of(condition, [before, now]))


def _rows_until(condition: ConditionNode, candles: CandleBatch, open_time_ms: int) -> MetricsBatch:
    known = candles.take(np.flatnonzero(candles.open_time_ms <= open_time_ms))
    return MarketMatrix(columns=columns_of(condition)).update(known)


def explain_over_market(
    rule: Rule, history: Iterable[CandleBatch], symbol: str, open_time_ms: int | None
) -> tuple[int, Clause]:
    """Return the minute (open time, UTC ms) and, for one symbol in it, the condition of a rule that looks at all
    symbols. open_time_ms: None for the newest minute.

    history: candles of all symbols, in order of time, no minute in two batches, beginning early enough for whole
    windows. Raises RuleError if the symbol has no candle in that minute.
    """
    book = RuleBook.compile([replace(rule, enabled=True)], "close")
    known, matrix = (
        KnownMinutes(),
        MarketMatrix(columns=tuple(dict.fromkeys((*book.columns.values(), "close_1m")))),
    )
    rules = MarketRules(book)
    condition, found = rule.condition(), None
    for candles in history:
        metrics = matrix.update(known.accept(valid_history(candles)[0]).batch)
        for rows, matches in rules.take(metrics):
            minute_ms = int(rows.open_time_ms[0])
            if symbol in rows.symbols and open_time_ms in (None, minute_ms):
                values = matches.seen(0, [rows.symbols.index(symbol)])[0]
                found = minute_ms, explain_inputs(condition, values)
    if found is None:
        raise RuleError(f"no candle of {symbol} for the minute that opened at {open_time_ms} ms")
    return found


def backtested_alert(rule: Rule, candles: CandleBatch, time_ms: int) -> tuple[Alert, int] | None:
    """Return the alert that the rule would have given over these candles (as for `explain_at`) with exactly this
    timestamp, in close or in live mode, and its minute; None if there is none."""
    for mode in MODES if rule.mode is None else (rule.mode,):
        alerts: list[Alert] = []
        Backtest(RuleBook.compile([replace(rule, enabled=True)], mode), alerts.append).feed(candles)
        borne = [alert for alert in alerts if alert.timestamp == rfc3339(time_ms)]
        if found := alert_at(borne, time_ms):
            return found
    return None


def history_at(
    condition: ConditionNode, candles: CandleBatch, open_time_ms: int, minutes: int
) -> list[Values]:
    """Return the values that the condition reads in each of the `minutes` up to the one opened at `open_time_ms`,
    oldest first; no values for a minute without a candle. `candles` as for `explain_at`."""
    known = candles.take(np.flatnonzero(candles.open_time_ms <= open_time_ms))
    if not len(known):
        return [{} for _ in range(minutes)]
    metrics = MarketMatrix(columns=columns_of(condition)).update(known)
    rows = {int(opened): row for row, opened in enumerate(metrics.open_time_ms.tolist())}
    found: list[Values] = []
    for back in range(minutes - 1, -1, -1):
        row = rows.get(open_time_ms - back * MINUTE_MS)
        found.append({} if row is None else values_of(metrics, row))
    return found


def minutes_needed(condition: ConditionNode) -> int:
    """Return how many minutes of history make the condition's windows whole and its indicators settle."""
    return max(_LEAST_MINUTES, settling_minutes(condition))


def settling_minutes(condition: ConditionNode) -> int:
    """Return `minutes_needed` without its lower bound: what this condition alone needs."""
    columns = max((_column_minutes(name) for name in columns_of(condition)), default=0)
    bars = max((_bar_minutes(node) for node in walk(condition) if isinstance(node, Indicator)), default=0)
    returns = max((node.minutes for node in walk(condition) if isinstance(node, WithReference)), default=0)
    return minutes_back(condition) + columns + bars + returns


def screen_minutes(nodes: Sequence[ConditionNode | NumberNode]) -> int:
    """Return how many minutes before the current one a query needs: fewer than `minutes_needed`, because its metrics
    of the current minute are known."""
    return 1 + max(minutes_back(node) + _past_minutes(node) for node in nodes)


def _past_minutes(node: ConditionNode | NumberNode) -> int:
    """Return how many minutes the metrics and bars need that the node looks at in the past."""
    past = [found for found in walk(node) if isinstance(found, _OF_THE_PAST)]
    columns = [name for found in past for name in columns_of(found)]
    bars = [_bar_minutes(found) for found in past if isinstance(found, Indicator)]
    return max((_column_minutes(name) for name in columns), default=0) + max(bars, default=0)


def _bar_minutes(node: Indicator) -> int:
    """Return how many minutes of bars the indicator needs until it hardly depends on where they begin."""
    bars = _SETTLED_BARS + 2 * sum(node.lengths)
    return min(bars * TIMEFRAMES[node.timeframe], _MOST_MINUTES)


def _column_minutes(name: str) -> int:
    field, _, timeframe = name.rpartition("_")
    length = TIMEFRAMES.get(timeframe)
    if length is None:
        return _WEEK_MINUTES
    if field in WINDOW_FIELDS or field in PIVOT_FIELDS:
        return 2 * length + 1
    return min(_SETTLED_BARS * length, _MOST_MINUTES)
