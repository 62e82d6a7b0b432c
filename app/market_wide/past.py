"""The stored minutes of all symbols that rules of the whole market look back at and this process has not seen.

They are played through windows and rules minute by minute, as in a backtest, before the rules are evaluated. Sealed
minutes wait meanwhile: no alert is lost, but the alerts of the next minute come later. If the database does not
answer, the functions over time are null until they have seen enough minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
import structlog

from app.alerts.rule_memory import History
from app.backtest.explain_at import settling_minutes
from app.backtest.market_rules import MarketRules
from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.market.matrix import MarketMatrix
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule

MOST_MINUTES: Final = 2880
_MINUTES_TOGETHER: Final = 120
"""How many minutes of all symbols are in memory at once."""
_TRIES: Final = 5
_TRY_AGAIN_S: Final = 2.0

log = structlog.get_logger("market")


class StoredPast:
    def __init__(self, history: History, shards: int) -> None:
        self._history = history
        self._shards = shards

    async def seen(self, book: RuleBook, rules: Collection[Rule], before_ms: int) -> Evaluator:
        """Return an evaluator of the book that has seen as many minutes before `before_ms` (open time, UTC) as these
        rules of it look back at, at most MOST_MINUTES."""
        began_s = time.perf_counter()
        market = MarketRules(book)
        matrix = MarketMatrix(columns=tuple(dict.fromkeys(book.columns.values())))
        minutes = min(MOST_MINUTES, max(settling_minutes(rule.condition()) for rule in rules))
        candles, newest_ms = 0, None
        for start_ms in range(before_ms - minutes * MINUTE_MS, before_ms, _MINUTES_TOGETHER * MINUTE_MS):
            end_ms = min(before_ms, start_ms + _MINUTES_TOGETHER * MINUTE_MS)
            found = await self._read(start_ms, end_ms, may_be_late=end_ms == before_ms and candles > 0)
            if found is None:
                break
            if len(found):
                candles, newest_ms = candles + len(found), int(found.open_time_ms.max())
                await asyncio.to_thread(_play, market, matrix, found)
        log.info(
            "rules_warmed_up",
            rules=sorted(rule.rule_type for rule in rules)[:20],
            candles=candles,
            missing_minutes=None if newest_ms is None else (before_ms - newest_ms) // MINUTE_MS - 1,
            seconds=round(time.perf_counter() - began_s, 3),
        )
        return market.evaluator

    async def _read(self, since_ms: int, until_ms: int, may_be_late: bool) -> CandleBatch | None:
        """Return the candles of all shards, in order of time; None if the database does not answer. may_be_late: the
        newest minute may not be stored yet, and is waited for."""
        for tried in range(1, _TRIES + 1):
            found = await self._read_now(since_ms, until_ms)
            if (
                found is None
                or not may_be_late
                or tried == _TRIES
                or found.open_time_ms.max(initial=0) >= until_ms - MINUTE_MS
            ):
                return found
            await asyncio.sleep(_TRY_AGAIN_S)
        raise AssertionError("the last try returns")

    async def _read_now(self, since_ms: int, until_ms: int) -> CandleBatch | None:
        parts: list[CandleBatch] = []
        for shard in range(self._shards):
            found = await self._history(shard, since_ms, until_ms)
            if found is None:
                return None
            parts.append(found)
        return _in_order(parts)


def _in_order(parts: Sequence[CandleBatch]) -> CandleBatch:
    known = [part for part in parts if len(part)]
    if not known:
        return CandleBatch.empty()
    whole = concatenate(known)
    return whole.take(np.argsort(whole.open_time_ms, kind="stable"))


def _play(market: MarketRules, matrix: MarketMatrix, candles: CandleBatch) -> None:
    for _ in market.take(matrix.update(candles)):
        pass
