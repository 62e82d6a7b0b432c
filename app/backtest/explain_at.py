"""Why a rule was true or not at a minute of history, from the candles that led up to it."""

from __future__ import annotations

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch
from app.errors import RuleError
from app.market.matrix import MarketMatrix
from app.rules.explain import Clause, explain, values_of
from app.rules.rule import Rule
from app.rules.tree import columns_of, previous_depth


def explain_at(rule: Rule, candles: CandleBatch, open_time_ms: int) -> Clause:
    """The rule's condition for one symbol at the minute that opened at `open_time_ms`.

    candles: of that symbol alone, in order of time, from so long before that the rule's windows are whole;
    later ones are not looked at. Raises RuleError if the minute is not among them.
    """
    known = candles.take(np.flatnonzero(candles.open_time_ms <= open_time_ms))
    if not len(known) or int(known.open_time_ms.max()) != open_time_ms:
        raise RuleError(f"there is no candle of the minute that opened at {open_time_ms} ms")
    condition = rule.condition()
    metrics = MarketMatrix(columns=columns_of(condition)).update(known)
    rows = {int(opened): row for row, opened in enumerate(metrics.open_time_ms.tolist())}
    history = []
    for back in range(previous_depth(condition), -1, -1):
        row = rows.get(open_time_ms - back * MINUTE_MS)
        history.append({} if row is None else values_of(metrics, row))
    return explain(rule, history)
