"""A symbol of which nothing was heard for a day of market time is held nowhere any more, after a restart either."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace

import numpy as np
from prometheus_client import CollectorRegistry

from app.candles.batch import MINUTE_MS
from app.candles.departures import Departures
from app.candles.known_minutes import KnownMinutes
from app.market.matrix import MarketMatrix
from app.market.metrics import MetricsBatch
from app.market.rings.packing import unpack_minute
from app.market_wide.minutes import Minutes
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.matches import Matches
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule
from app.sidecar.rest.metrics_json import EncodedMetrics
from app.sidecar.state.latest import LatestMetrics
from app.telemetry import market_metrics
from tests.support.candle_batches import Candle, batch_of
from tests.support.metric_batches import metrics_batch
from tests.support.webhooks import NOTED_NOWHERE

START = 28_000_000
DAY = 1_440
LEFT = range(START + 60, START + DAY + 200, 60)
"""Minutes in which only the others are heard of."""


def metrics_at(*candles: tuple[str, int]):
    return metrics_batch([(symbol, minute * MINUTE_MS, {"close_1m": 2.0}) for symbol, minute in candles])


def test_a_symbol_leaves_after_a_day_without_a_candle_and_not_before():
    departures = Departures()
    assert departures.note(["AUSDT", "BUSDT"], START * MINUTE_MS) == []
    gone = {minute: departures.note(["BUSDT"], minute * MINUTE_MS) for minute in LEFT}
    assert [symbol for found in gone.values() for symbol in found] == ["AUSDT"]
    [at] = [minute for minute, found in gone.items() if found]
    assert DAY < at - START <= DAY + 180


def test_after_a_pause_of_the_whole_market_symbols_may_come_back_one_by_one():
    departures = Departures()
    departures.note(["AUSDT", "BUSDT"], START * MINUTE_MS)
    after = START + 3 * DAY
    assert departures.note(["BUSDT"], after * MINUTE_MS) == []
    assert departures.note(["AUSDT"], after * MINUTE_MS) == []
    assert [departures.note(["BUSDT"], (after + n) * MINUTE_MS) for n in range(1, 200)] == [[]] * 199


def test_history_that_is_being_filled_keeps_its_symbol():
    departures = Departures()
    departures.note(["AUSDT"], START * MINUTE_MS)
    for minute in LEFT:
        assert departures.note(["BUSDT"], (minute + 5 * DAY) * MINUTE_MS) == []
        departures.note(["AUSDT"], minute * MINUTE_MS)


def test_the_collector_forgets_it_and_does_not_load_it_again():
    known = KnownMinutes()
    known.accept(batch_of([Candle("AUSDT", START), Candle("BUSDT", START)]))
    packed = known.pack_minute(START * MINUTE_MS)
    for minute in LEFT:
        known.accept(batch_of([Candle("BUSDT", minute)]))
    assert "AUSDT" not in known
    assert len(known) == 1
    assert known.accept(batch_of([Candle("BUSDT", LEFT[-1])])).duplicates == 1

    again = KnownMinutes()
    again.load_minute(LEFT[-1] * MINUTE_MS, known.pack_minute(LEFT[-1] * MINUTE_MS))
    again.load_minute(START * MINUTE_MS, packed)
    again.drop_left()
    assert "AUSDT" not in again
    assert again.accept(batch_of([Candle("BUSDT", LEFT[-1])])).duplicates == 1


def test_the_market_does_not_restore_it():
    matrix = MarketMatrix(columns=("close_1m",))
    matrix.update(batch_of([Candle("AUSDT", START), Candle("BUSDT", START)]))
    packed = matrix.pack_minute(START * MINUTE_MS)
    later = MarketMatrix(columns=("close_1m",))
    later.restore_minutes(unpack_minute(packed))
    later.restore_minutes(batch_of([Candle("BUSDT", START + DAY + 1)]))
    later.drop_left()
    assert later.symbols == ("BUSDT",)


def test_rules_forget_it_and_remember_the_others():
    rule = Rule("known", "prev(close_1m) > 1", "info", mode="close")
    evaluator = Evaluator(RuleBook.compile([rule], "close"))
    evaluator.evaluate(metrics_at(("AUSDT", START), ("BUSDT", START)))
    evaluator.forget(["AUSDT", "UNKNOWN"])
    assert evaluator.symbols == ("BUSDT",)
    matches = evaluator.evaluate(metrics_at(("AUSDT", START + 1), ("BUSDT", START + 1)))
    assert matches.row.tolist() == [1]


def test_the_sidecar_forgets_it_and_shows_it_anew_when_it_comes_back():
    latest = LatestMetrics()
    encoded = EncodedMetrics(latest)
    latest.take(metrics_at(("AUSDT", START), ("BUSDT", START)))
    before = encoded.of("AUSDT")
    for minute in LEFT:
        latest.take(metrics_at(("BUSDT", minute)))
    assert latest.symbols() == ["BUSDT"]
    assert latest.row("BUSDT").open_time_ms == LEFT[-1] * MINUTE_MS
    latest.take(metrics_at(("AUSDT", LEFT[-1] + 1)))
    assert encoded.of("AUSDT") not in (None, before)
    assert np.isnan(latest.row("AUSDT").values).sum() == np.isnan(latest.row("BUSDT").values).sum()


def test_what_the_sidecar_encoded_of_departed_symbols_is_dropped():
    latest = LatestMetrics()
    encoded = EncodedMetrics(latest)
    for day in range(3):
        names = [f"D{day}S{number}" for number in range(10)]
        latest.take(metrics_at(*((name, START + day * 2 * DAY) for name in names)))
        for name in names:
            encoded.of(name)
        for minute in LEFT:
            latest.take(metrics_at(("BUSDT", minute + day * 2 * DAY)))
        encoded.of("BUSDT")
        assert len(encoded) <= len(latest)


class Engine:
    """Evaluates as `AlertEngine`, without cooldowns and without publishing."""

    def __init__(self, book: RuleBook) -> None:
        self.rules = SimpleNamespace(book=book)
        self.forgotten: list[str] = []
        self.symbols: tuple[str, ...] = ()

    def evaluate(self, evaluator: Evaluator, rows: MetricsBatch) -> Matches:
        matches = evaluator.evaluate(rows)
        self.symbols = evaluator.symbols
        return matches

    async def publish(self, *_: object) -> None:
        """To nobody."""

    async def settled(self) -> None: ...

    def forget_symbols(self, symbols: Collection[str]) -> None:
        self.forgotten.extend(symbols)


async def test_the_market_role_forgets_it_and_keeps_the_others():
    async def nothing(*_: object) -> None:
        return None

    async def written(_: object) -> int:
        return 0

    rule = Rule("led", "rank(close_1m) > 0 and prev(close_1m) > 1", "info", mode="close")
    engine = Engine(RuleBook.compile([rule], "close"))
    minutes = Minutes(
        engine, written, SimpleNamespace(seen=nothing), market_metrics(CollectorRegistry()), NOTED_NOWHERE
    )
    await minutes.take([metrics_at(("AUSDT", START), ("BUSDT", START))], {}, {})
    assert engine.symbols == ("AUSDT", "BUSDT")
    for minute in LEFT:
        await minutes.take([metrics_at(("BUSDT", minute))], {}, {})
    assert engine.forgotten == ["AUSDT"]
    assert engine.symbols == ("BUSDT",)
