"""One pass over history with the steps of the pipeline's stages: validity, duplicates, windows, rules, cooldowns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from app.backtest.market_rules import MarketRules
from app.candles.batch import CandleBatch, FloatArray
from app.candles.known_minutes import Accepted, KnownMinutes
from app.candles.validity import Reason, valid_rows
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from app.rules.alert import Alert, alert_id
from app.rules.alert_builder import METADATA_COLUMNS, build_alert
from app.rules.cooldown import CooldownKey, Fire, decide
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.matches import Matches
from app.rules.evaluation.rulebook import RuleBook, RuleFault
from app.rules.language.walks import columns_of


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One alert of the backtest; `id` is the one the pipeline gives it."""

    open_time_ms: int
    rule_type: str
    symbol: str
    id: str


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one `feed`. candles: the valid and new ones, in order of time. entries: the alerts that they
    gave. prices: the close at each alert."""

    candles: CandleBatch
    entries: list[Entry]
    prices: FloatArray


@dataclass(slots=True)
class CandleCounts:
    """How many candles a backtest was given, and what became of them. refused: invalid ones, by reason. duplicates:
    left out. corrections: closed candles that came again, changed."""

    candles: int = 0
    refused: Counter[Reason] = field(default_factory=Counter)
    duplicates: int = 0
    corrections: int = 0

    @property
    def invalid(self) -> int:
        return self.refused.total()


class Backtest:
    """Evaluates rules over history. Feed it candles in order of time; `entries` has all alerts, unless `keep_entries`
    is false.

    book: the rules. Only the metric columns that they read are computed. on_alert: takes each alert as the pipeline
    would publish it (`evaluate_ts_ms` is the candle's event time); building them costs more than finding them.
    since_ms: candles before this open time (UTC) fill windows and start cooldowns and holds, but are not counted.
    """

    def __init__(
        self,
        book: RuleBook,
        on_alert: Callable[[Alert], None] | None = None,
        since_ms: int | None = None,
        keep_entries: bool = True,
    ) -> None:
        self.book = book
        self.counts = CandleCounts()
        self.entries: list[Entry] = []
        self.awake_ms: dict[str, int] = {}
        """rule_type -> first minute (open time, UTC ms) at which some symbol had all metrics it reads."""
        self._on_alert = on_alert
        self._since_ms = since_ms
        self._keep_entries = keep_entries
        self._known = KnownMinutes()
        self._matrix = MarketMatrix(columns=_columns(book, on_alert is not None))
        self._evaluator = Evaluator(book.part(looks_at_market=False))
        self._market_rules = MarketRules(book.part(looks_at_market=True))
        self._last_fired: dict[CooldownKey, int] = {}
        self._asleep = {rule.rule_type: columns_of(rule.condition()) for rule in book.rules}

    @property
    def faults(self) -> tuple[RuleFault, ...]:
        """Rules that raised, and are left out from then on."""
        return (*self.book.faults, *self._evaluator.faults, *self._market_rules.evaluator.faults)

    def feed(self, candles: CandleBatch) -> Step:
        """Evaluate the candles; return those that counted, with the alerts they gave."""
        if self._since_ms is not None:
            early = candles.open_time_ms < self._since_ms
            if early.any():
                self._advance(valid_history(candles.take(early))[0])
                candles = candles.take(~early)
        valid, refused = valid_history(candles)
        accepted, fired = self._advance(valid)
        self.counts.candles += len(candles)
        self.counts.refused += refused
        self.counts.duplicates += accepted.duplicates
        self.counts.corrections += accepted.corrections
        entries = [_entry(fire) for fire, _ in fired]
        if self._keep_entries:
            self.entries += entries
        if self._on_alert is not None:
            for fire, rows in fired:
                self._on_alert(build_alert(fire, rows, int(rows.event_ts_ms[fire.row])))
        return Step(accepted.batch, entries, _closes(fired))

    def _advance(self, candles: CandleBatch) -> tuple[Accepted, list[tuple[Fire, MetricsBatch]]]:
        """Take the candles through windows, rules and cooldowns; return what fired, with its batch of rows."""
        accepted = self._known.accept(candles)
        metrics = self._matrix.update(accepted.batch)
        matches = self._evaluator.evaluate(metrics)
        if self._asleep:
            self._wake(metrics)
        fired = [(fire, metrics) for fire in self._decide(matches, metrics, self._evaluator.book)]
        for rows, found in self._market_rules.take(metrics):
            fires = self._decide(found, rows, self._market_rules.evaluator.book)
            fired += [(fire, rows) for fire in fires]
        return accepted, fired

    def _decide(self, matches: Matches, rows: MetricsBatch, book: RuleBook) -> list[Fire]:
        decided = decide(matches, rows, book, self._last_fired)
        self._last_fired |= decided.last_fired
        return decided.fires

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


def _closes(fired: list[tuple[Fire, MetricsBatch]]) -> FloatArray:
    closes = (rows.values[fire.row, rows.columns.index("close_1m")] for fire, rows in fired)
    return np.fromiter(closes, np.float64, len(fired))


def _columns(book: RuleBook, whole_alerts: bool) -> tuple[str, ...]:
    wanted = [*book.columns.values(), "close_1m", *(METADATA_COLUMNS.values() if whole_alerts else ())]
    return tuple(dict.fromkeys(wanted))


def valid_history(candles: CandleBatch) -> tuple[CandleBatch, Counter[Reason]]:
    """Return the valid candles, and how many are invalid, by reason. The newest candle is the clock, so that no
    candle counts as from the future."""
    return valid_rows(candles, int(candles.open_time_ms.max(initial=0)))
