"""A rule tried on the newest minutes of many symbols, some symbols at a time, for an answer in limited time."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, TypedDict

import numpy as np

from app.backtest.backtest import Backtest, Entry
from app.candles.batch import MINUTE_MS, CandleBatch
from app.rules.evaluation.rulebook import RuleBook, RuleFault
from app.rules.rule import Rule
from app.times import rfc3339

MOST_ALERTS: Final = 300
"""The newest alerts are listed, at most so many; all are counted."""
_DAY_MS: Final = 1440 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class TrialAlert:
    """price: close of the minute that fired."""

    open_time_ms: int
    symbol: str
    price: float


class SymbolFires(TypedDict):
    symbol: str
    fired: int


class DayFires(TypedDict):
    day: str
    fired: int


class TrialAlertDocument(TypedDict):
    symbol: str
    time: str
    price: float


class TrialDocument(TypedDict):
    """A `Trial` as JSON. awake: None if the rule could never fire. fault: the error that ended the rule."""

    fired: int
    symbols: int
    minutes: int
    awake: str | None
    by_symbol: list[SymbolFires]
    by_day: list[DayFires]
    alerts: list[TrialAlertDocument]
    fault: str | None


@dataclass(slots=True)
class Trial:
    """The trial of one rule. Give it groups of symbols with `add`; all candles of a symbol must be in one group.

    since_ms: open time (UTC) of the first minute that counts; earlier minutes fill the windows.
    """

    rule: Rule
    since_ms: int
    by_symbol: Counter[str] = field(default_factory=Counter)
    by_day: Counter[int] = field(default_factory=Counter)
    """Start of the day (UTC ms) -> alerts."""
    minutes: int = 0
    """Candles that counted, of all symbols."""
    symbols: int = 0
    """Symbols that had such candles."""
    awake_ms: int | None = None
    """First minute at which some symbol had all metrics that the rule reads."""
    fault: RuleFault | None = None
    _newest: list[tuple[int, str, float]] = field(default_factory=list)

    def add(self, candles: CandleBatch) -> None:
        """Evaluate the candles of these symbols, in order of time."""
        run = Backtest(RuleBook.compile([self.rule], "close"), since_ms=self.since_ms)
        step = run.feed(candles)
        self.fault = next(iter(run.faults), self.fault)
        self.minutes += run.counts.candles
        self.symbols += len(np.unique(step.candles.symbol_index))
        awake = [at for at in (self.awake_ms, *run.awake_ms.values()) if at is not None]
        self.awake_ms = min(awake, default=None)
        for entry, price in zip(step.entries, step.prices.tolist(), strict=True):
            self._count(entry)
            alert = (entry.open_time_ms, entry.symbol, price)
            if len(self._newest) < MOST_ALERTS:
                heapq.heappush(self._newest, alert)
            else:
                heapq.heappushpop(self._newest, alert)

    def _count(self, entry: Entry) -> None:
        self.by_symbol[entry.symbol] += 1
        self.by_day[entry.open_time_ms // _DAY_MS * _DAY_MS] += 1

    @property
    def alerts(self) -> list[TrialAlert]:
        """Return the newest alerts, newest first, at most MOST_ALERTS."""
        return [TrialAlert(*alert) for alert in sorted(self._newest, reverse=True)]

    def as_dict(self) -> TrialDocument:
        return {
            "fired": self.by_symbol.total(),
            "symbols": self.symbols,
            "minutes": self.minutes,
            "awake": None if self.awake_ms is None else rfc3339(self.awake_ms),
            "by_symbol": [{"symbol": symbol, "fired": n} for symbol, n in self.by_symbol.most_common()],
            "by_day": [{"day": rfc3339(day)[:10], "fired": n} for day, n in sorted(self.by_day.items())],
            "alerts": [
                {"symbol": alert.symbol, "time": rfc3339(alert.open_time_ms), "price": alert.price}
                for alert in self.alerts
            ],
            "fault": None if self.fault is None else self.fault.error,
        }
