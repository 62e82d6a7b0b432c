"""Forward returns of alerts while candles stream by: an alert waits until its longest horizon is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from app.backtest.backtest import Entry, Step
from app.backtest.outcomes import HORIZONS, Outcome, RuleOutcome
from app.backtest.prices import DAY_MINUTES, ClosePrices
from app.backtest.random_entries import moved_returns
from app.backtest.tally import RuleTally
from app.candles.batch import MINUTE_MS

_PENDING_MAX: Final = 10_000
_PENDING_MS: Final = DAY_MINUTES * MINUTE_MS


class ForwardReturns:
    """Feed it the steps of a backtest in order of time; `outcomes` has the figures.

    Memory grows with symbols and rules, not with candles or alerts, if `prices` keeps its days elsewhere.
    """

    def __init__(
        self, prices: ClosePrices | None = None, horizons: Mapping[str, int] = HORIZONS, seed: int = 1
    ) -> None:
        """horizons: name -> minutes. seed: the same seed and steps give the same figures."""
        self.prices = ClosePrices() if prices is None else prices
        self.alerts = 0
        self._horizons = horizons
        self._seed = seed
        self._tallies: dict[str, RuleTally] = {}
        self._pending: list[Entry] = []
        self._newest_ms = 0

    def take(self, step: Step) -> None:
        self.prices.record(step.candles)
        self.alerts += len(step.entries)
        self._pending += step.entries
        self._newest_ms = max(self._newest_ms, int(step.candles.open_time_ms.max(initial=0)))
        if not self._pending:
            return
        waited_ms = self._newest_ms - self._pending[0].open_time_ms
        if waited_ms > _PENDING_MS or len(self._pending) > _PENDING_MAX:
            self._settle(self._newest_ms - max(self._horizons.values()) * MINUTE_MS)

    def _settle(self, before_ms: int) -> None:
        """Record the returns of pending alerts whose minute is before `before_ms` (open time, UTC)."""
        ready: dict[str, list[Entry]] = {}
        waiting = []
        for entry in self._pending:
            if entry.open_time_ms < before_ms:
                ready.setdefault(entry.rule_type, []).append(entry)
            else:
                waiting.append(entry)
        self._pending = waiting
        for rule_type, entries in ready.items():
            self._take(rule_type, entries)

    def _take(self, rule_type: str, entries: list[Entry]) -> None:
        minutes = np.array([entry.open_time_ms for entry in entries], np.int64) // MINUTE_MS
        columns = np.array([self.prices.symbols[entry.symbol] for entry in entries], np.int64)
        now = self.prices.at(minutes, columns)
        later = [self.prices.at(minutes + horizon, columns) for horizon in self._horizons.values()]
        returns = np.column_stack([(then / now - 1) * 100 for then in later])
        tally = self._tallies.setdefault(rule_type, RuleTally(len(self._horizons), self._seed))
        tally.take(entries, columns, now, returns)

    def outcomes(self, awake_ms: Mapping[str, int]) -> tuple[RuleOutcome, ...]:
        """Return one outcome per rule in `awake_ms` or with alerts, most alerts first, then by name.

        awake_ms: from when each rule could fire; random entries are drawn from there on. Call it after all candles.
        """
        self._settle(self._newest_ms + MINUTE_MS)
        for rule_type in awake_ms:
            self._tallies.setdefault(rule_type, RuleTally(len(self._horizons), self._seed))
        found = [
            self._outcome(rule_type, tally, awake_ms.get(rule_type, self.prices.first_ms))
            for rule_type, tally in sorted(self._tallies.items())
        ]
        return tuple(sorted(found, key=lambda outcome: (-outcome.fires, outcome.rule_type)))

    def _outcome(self, rule_type: str, tally: RuleTally, awake_ms: int) -> RuleOutcome:
        start = max(0, (awake_ms - self.prices.first_ms) // MINUTE_MS)
        period = self.prices.minutes - start
        moved: Sequence[np.ndarray | None] = [None] * len(self._horizons)
        if len(tally.sample.minutes) > 1 and period > 1:
            moved = moved_returns(
                tally.sample, self.prices, start, tuple(self._horizons.values()), self._seed
            )
        outcomes = tuple(
            Outcome.of(horizon, at, tally.whole, tally.sample, moved[at])
            for at, horizon in enumerate(self._horizons)
        )
        return RuleOutcome.of(rule_type, tally, max(1, period) / DAY_MINUTES, outcomes)
