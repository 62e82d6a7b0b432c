"""One pass over history: valid, known once, windows, rules, cooldowns, as in the pipeline's stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.backtest.intake import valid_history
from app.backtest.prices import ClosePrices
from app.candles.batch import CandleBatch
from app.candles.known_minutes import Accepted, KnownMinutes
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from app.rules.alert import METADATA_COLUMNS, alert_id, build_alert
from app.rules.cooldown import CooldownKey, Fire, decide
from app.rules.rulebook import Evaluator, RuleBook
from app.rules.tree import columns_of


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One alert of the backtest; `id` is the one the pipeline gives it."""

    open_time_ms: int
    rule_type: str
    symbol: str
    id: str


@dataclass(slots=True)
class Counts:
    """candles: given. invalid, duplicates: left out. corrections: closed candles that came again, changed."""

    candles: int = 0
    invalid: int = 0
    duplicates: int = 0
    corrections: int = 0


class Backtest:
    """Feed it candles in order of time; the alerts are in `entries`.

    book: the rules. Only the metric columns that they read are computed. on_alert: takes each alert's JSON
    object as the pipeline would publish it (`evaluate_ts_ms` is the candle's event time); building them costs
    more than finding them. since_ms: what happens before (open time, UTC) makes windows whole and starts
    cooldowns and holds, but counts for nothing.
    """

    def __init__(
        self,
        book: RuleBook,
        on_alert: Callable[[dict[str, Any]], None] | None = None,
        since_ms: int | None = None,
    ) -> None:
        self.book = book
        self.counts = Counts()
        self.entries: list[Entry] = []
        self.prices = ClosePrices()
        self.awake_ms: dict[str, int] = {}
        """rule_type -> first minute (open time, UTC ms) at which some symbol had all metrics it reads."""
        self._on_alert = on_alert
        self._since_ms = since_ms
        self._known = KnownMinutes()
        self._matrix = MarketMatrix(columns=_columns(book, on_alert is not None))
        self._evaluator = Evaluator(book)
        self._last_fired: dict[CooldownKey, int] = {}
        self._asleep = {rule.rule_type: columns_of(rule.condition()) for rule in book.rules}

    def feed(self, candles: CandleBatch) -> int:
        """Evaluates the candles and returns how many alerts they gave."""
        if self._since_ms is not None:
            early = candles.open_time_ms < self._since_ms
            if early.any():
                self._advance(valid_history(candles.take(early))[0])
                candles = candles.take(~early)
        valid, invalid = valid_history(candles)
        accepted, metrics, fires = self._advance(valid)
        self.counts.candles += len(candles)
        self.counts.invalid += invalid
        self.counts.duplicates += accepted.duplicates
        self.counts.corrections += accepted.corrections
        self.prices.record(accepted.batch)
        self.entries += [_entry(fire) for fire in fires]
        if self._on_alert is not None:
            for fire in fires:
                self._on_alert(build_alert(fire, metrics, int(metrics.event_ts_ms[fire.row])))
        return len(fires)

    def _advance(self, candles: CandleBatch) -> tuple[Accepted, MetricsBatch, list[Fire]]:
        """Takes the candles through windows, rules and cooldowns."""
        accepted = self._known.accept(candles)
        metrics = self._matrix.update(accepted.batch)
        matches = self._evaluator.evaluate(metrics)
        if self._asleep:
            self._wake(metrics)
        decided = decide(matches, metrics, self.book, self._last_fired)
        self._last_fired |= decided.last_fired
        return accepted, metrics, decided.fires

    def _wake(self, metrics: MetricsBatch) -> None:
        position = {name: at for at, name in enumerate(metrics.columns)}
        for rule_type, columns in list(self._asleep.items()):
            read = metrics.values[:, [position[name] for name in columns]]
            complete = np.flatnonzero(~np.isnan(read).any(axis=1))
            if len(complete):
                first_ms = int(metrics.open_time_ms[complete].min())
                self.awake_ms[rule_type] = max(first_ms, self._since_ms or first_ms)
                del self._asleep[rule_type]


def _entry(fire: Fire) -> Entry:
    rule = fire.rule
    identity = alert_id(rule.rule_type, rule.version, fire.symbol, fire.open_time_ms)
    return Entry(fire.open_time_ms, rule.rule_type, fire.symbol, identity)


def _columns(book: RuleBook, whole_alerts: bool) -> tuple[str, ...]:
    wanted = [*book.columns.values(), "close_1m", *(METADATA_COLUMNS.values() if whole_alerts else ())]
    return tuple(dict.fromkeys(wanted))
