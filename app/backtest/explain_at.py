"""Why a rule was true or not at a minute of history, from the candles that led up to it."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch
from app.errors import RuleError
from app.market.columns import PIVOT_FIELDS, WINDOW_FIELDS
from app.market.matrix import MarketMatrix
from app.market.timeframes import TIMEFRAMES
from app.rules.explain import Clause, Values, explain, values_of
from app.rules.rule import Rule
from app.rules.tree import ConditionNode, columns_of, previous_depth

_WEEK_MINUTES: Final = 7 * 1440
_LEAST_MINUTES: Final = 2 * 1440
_SETTLED_BARS: Final = 250
"""What an average over 50 bars still remembers of those before is below 1 in 10,000."""
_MOST_MINUTES: Final = 60 * 1440


def explain_at(rule: Rule, candles: CandleBatch, open_time_ms: int) -> Clause:
    """The rule's condition for one symbol at the minute that opened at `open_time_ms`.

    candles: of that symbol alone, in order of time, from so long before that the rule's windows are whole;
    later ones are not looked at. Raises RuleError if the minute is not among them.
    """
    if not np.any(candles.open_time_ms == open_time_ms):
        raise RuleError(f"there is no candle of the minute that opened at {open_time_ms} ms")
    condition = rule.condition()
    return explain(rule, history_at(condition, candles, open_time_ms, previous_depth(condition) + 1))


def history_at(
    condition: ConditionNode, candles: CandleBatch, open_time_ms: int, minutes: int
) -> list[Values]:
    """What the condition looks at in each of the `minutes` up to the one that opened at `open_time_ms`, oldest
    first; nothing for a minute without a candle. `candles` as for `explain_at`."""
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
    """How many minutes of history make the condition's windows whole and its indicators settle."""
    return max(_LEAST_MINUTES, *(_column_minutes(name) for name in columns_of(condition)))


def _column_minutes(name: str) -> int:
    field, _, timeframe = name.rpartition("_")
    length = TIMEFRAMES.get(timeframe)
    if length is None:
        return _WEEK_MINUTES
    if field in WINDOW_FIELDS or field in PIVOT_FIELDS:
        return 2 * length + 1
    return min(_SETTLED_BARS * length, _MOST_MINUTES)
