"""Whose word moves the feed's clock: nobody's alone, and never against this machine's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import orjson
import pytest
import structlog
from prometheus_client import CollectorRegistry

from app.candles.batch import CandleBatch
from app.candles.validity import Reason
from app.clock import ManualClock
from app.feed.exchange_clock import AGREE_MS, ExchangeClock, TimeWatch, clock_fault
from app.feed.exchanges.binance import BinanceFutures
from app.feed.exchanges.exchange import Request
from app.feed.exchanges.klines import klines_page
from app.feed.frame_queue import FrameQueue
from app.feed.history.coverage import Coverage
from app.feed.pump import Pump, SharedPublisher
from app.feed.ticker_feed import TickerFeed
from app.process.health.dependencies import Dependencies
from app.role_health import dependencies_of
from app.settings import Settings
from app.telemetry import feed_metrics, pipeline_metrics, runtime_metrics
from app.wire.dead_letters import DeadLetter, DeadLetters
from app.wire.tickers import Ticker
from tests.support.candle_batches import rows_of
from tests.support.kline_frames import frame
from tests.support.metric_values import UNREAD, value_of

METRICS = feed_metrics(CollectorRegistry())

MINUTE_MS = 60_000
NOW_MS = 29_000_000 * MINUTE_MS + 30_000
MINUTE_OPEN_MS = NOW_MS - 30_000
SYMBOLS = ("AUSDT", "BUSDT", "CUSDT", "DUSDT")


class Elapsed:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def spoken(*events: tuple[str, int], closed: bool = False, open_ms: int = MINUTE_OPEN_MS) -> CandleBatch:
    frames = [frame(symbol, open_ms, closed=closed, event_ts_ms=at_ms) for symbol, at_ms in events]
    batch = BinanceFutures().read(frames, NOW_MS).candles
    assert batch is not None
    return batch


def clock_of(host_ms: int = NOW_MS) -> ExchangeClock:
    clock = ExchangeClock(ManualClock(host_ms), Elapsed())
    clock.told(NOW_MS)
    return clock


@pytest.mark.parametrize("wrong_ms", [NOW_MS + 3_600_000, NOW_MS * 1000, NOW_MS + 25_000])
def test_one_symbol_whose_time_is_wrong_moves_no_clock(wrong_ms: int):
    clock = clock_of()
    clock.observe(spoken(*((symbol, NOW_MS + 100) for symbol in SYMBOLS)))
    clock.observe(spoken(("AUSDT", wrong_ms)))
    assert clock.now_ms() == NOW_MS + 100


def test_times_that_several_symbols_have_reached_move_it():
    clock = clock_of()
    clock.observe(spoken(*((symbol, NOW_MS + 2_000 + at) for at, symbol in enumerate(SYMBOLS))))
    assert clock.now_ms() == NOW_MS + 2_001


def test_with_few_symbols_the_exchange_is_to_be_asked_when_a_minute_seems_over():
    clock = clock_of()
    clock.observe(spoken(("AUSDT", NOW_MS + 20_000), ("BUSDT", NOW_MS + 20_000)))
    assert (clock.now_ms(), clock.in_doubt) == (NOW_MS, False)
    late = ExchangeClock(ManualClock(NOW_MS + 40_000), Elapsed())
    late.told(NOW_MS)
    late.observe(spoken(("AUSDT", NOW_MS + 40_000)))
    assert (late.now_ms(), late.in_doubt) == (NOW_MS, True)
    late.told(NOW_MS + 40_000)
    assert (late.now_ms(), late.in_doubt) == (NOW_MS + 40_000, False)


@pytest.mark.parametrize("slow_s", [180, 3_600])
def test_on_a_slow_machine_a_minute_is_over_when_both_clocks_say_so(slow_s: int):
    host = ManualClock(NOW_MS - slow_s * 1000)
    clock = ExchangeClock(host, Elapsed())
    clock.told(NOW_MS)
    assert clock.now_ms() == host.now_ms()
    clock.observe(spoken(*((symbol, NOW_MS + 1_000) for symbol in SYMBOLS)))
    assert clock.now_ms() == host.now_ms()
    assert clock.offset_ms == slow_s * 1000
    assert f"{slow_s} s behind" in clock_fault(clock.offset_ms / 1000)


def test_an_exchange_that_plays_the_past_fast_is_followed():
    host = ManualClock(NOW_MS + 86_400_000)
    clock = ExchangeClock(host, Elapsed())
    clock.told(NOW_MS)
    for step in range(1, 10):
        clock.observe(spoken(*((symbol, NOW_MS + step * 20_000) for symbol in SYMBOLS)))
        assert clock.now_ms() == NOW_MS + step * 20_000
    assert "86400 s ahead of" in clock_fault((clock.offset_ms or 0) / 1000)


@pytest.mark.parametrize(("offset_s", "side"), [(180, "behind"), (-180, "ahead of")])
async def test_a_disagreement_is_said_in_a_metric_a_log_event_and_the_health_of_the_feed(
    offset_s: int, side: str
):
    host = ManualClock(NOW_MS)
    answered_ms = [NOW_MS + offset_s * 1000]

    async def get(_: Request) -> Any:
        return {"serverTime": answered_ms[-1]}

    watch = TimeWatch(BinanceFutures(), get, ExchangeClock(host, Elapsed()), METRICS)
    settings = Settings.load(
        {}, nats_url="nats://h:1", kafka_url="h:2", redis_url="redis://h:3", postgres_url="postgresql://h:4/d"
    )
    clock = next(one for one in dependencies_of(["feed"], settings.servers()) if one.name == "clock")
    with structlog.testing.capture_logs() as logs:
        await watch.ask()
        await watch.ask()
    assert [one["event"] for one in logs] == ["clock_disagrees"]
    assert f"180 s {side} the exchange's" in logs[0]["advice"]
    assert value_of(METRICS.clock_offset) == offset_s
    dependencies = Dependencies([clock], runtime_metrics(CollectorRegistry()))
    await dependencies._check(clock)
    report, works = dependencies.report()
    assert (report["clock"]["state"], works) == ("down", True)
    assert f"180 s {side} the exchange's" in report["clock"]["fault"]

    answered_ms.append(NOW_MS)
    with structlog.testing.capture_logs() as logs:
        await watch.ask()
    await dependencies._check(clock)
    assert [one["event"] for one in logs] == ["clock_agrees"]
    assert dependencies.report()[0]["clock"] == {"state": "up", "needed": False}


async def test_many_candles_refused_as_future_point_at_the_clock_once():
    sent: list[bytes] = []

    async def send(record: bytes) -> None:
        sent.append(record)

    letters = DeadLetters("bridge", send, ManualClock(NOW_MS), pipeline_metrics(UNREAD))
    with structlog.testing.capture_logs() as logs:
        for _ in range(50):
            await letters.send(DeadLetter(Reason.FUTURE, "ahead", "candles.1m.AUSDT", b"{}"))
            await letters.send(DeadLetter(Reason.NOT_JSON, "no", "candles.1m.AUSDT", b"{"))
    said = [one for one in logs if one["event"] == "clock_suspected"]
    assert len(said) == 1
    assert "clock of this machine" in said[0]["advice"]
    assert len(sent) == 100


class Published:
    def __init__(self) -> None:
        self.rows: list[tuple[str, int, bool]] = []

    async def publish(self, batch: CandleBatch, candles_per_message: int | None = None) -> None:
        self.rows += [(row.symbol, row.minute * MINUTE_MS, row.closed) for row in rows_of(batch)]

    async def publish_unreadable(self, frame: bytes) -> None:
        raise AssertionError(frame)

    async def flush(self) -> None:
        pass


async def pumped(*frames: bytes, since_ms: int = MINUTE_OPEN_MS) -> tuple[Published, Coverage, ExchangeClock]:
    host, inbox, published, coverage = ManualClock(NOW_MS), FrameQueue(), Published(), Coverage(1500)
    clock = ExchangeClock(host, Elapsed())
    clock.told(NOW_MS)
    for symbol in SYMBOLS:
        coverage.expect(symbol, since_ms)
    publisher = SharedPublisher(cast(Any, published), coverage)
    pump = Pump(BinanceFutures(), inbox, publisher, set(SYMBOLS), clock, host, METRICS)
    for one in frames:
        inbox.add(one)
        await pump.drain()
    return published, coverage, clock


@pytest.mark.parametrize("unit", [1, 1000])
async def test_closed_candles_from_the_future_are_refused_and_leave_nothing_owed(unit: int):
    ahead_ms = (MINUTE_OPEN_MS + 60 * MINUTE_MS) * unit
    good = frame("AUSDT", MINUTE_OPEN_MS, closed=False, event_ts_ms=NOW_MS + 500)
    published, coverage, clock = await pumped(frame("AUSDT", ahead_ms, closed=True), good)
    # handed on, so that the bridge refuses it by name
    assert published.rows == [("AUSDT", ahead_ms, True), ("AUSDT", MINUTE_OPEN_MS, False)]
    assert not coverage.has_reached("AUSDT", MINUTE_OPEN_MS)
    assert coverage.owed_minutes() == {}
    assert clock.now_ms() == NOW_MS


@pytest.mark.parametrize("claimed_ms", [NOW_MS + 1_000, NOW_MS + 31_000])
async def test_a_candle_that_says_closed_before_its_end_still_forms(claimed_ms: int):
    others = [frame(symbol, MINUTE_OPEN_MS, closed=False, event_ts_ms=NOW_MS) for symbol in SYMBOLS[1:]]
    early = frame("AUSDT", MINUTE_OPEN_MS, closed=True, event_ts_ms=claimed_ms)
    published, coverage, _ = await pumped(*others, early)
    assert published.rows[-1] == ("AUSDT", MINUTE_OPEN_MS, False)
    assert not coverage.has_reached("AUSDT", MINUTE_OPEN_MS)


async def test_a_closed_candle_that_is_not_valid_leaves_its_minute_owed():
    over_ms = MINUTE_OPEN_MS - MINUTE_MS
    bad = frame("AUSDT", over_ms, closed=True, close="NaN")
    published, coverage, _ = await pumped(bad, since_ms=over_ms)
    # handed on, so that the bridge refuses it by name
    assert published.rows == [("AUSDT", over_ms, True)]
    coverage.pass_time(NOW_MS)
    assert "AUSDT" in coverage.owed_minutes()
    good = frame("AUSDT", over_ms, closed=True)
    published, coverage, _ = await pumped(good, since_ms=over_ms)
    coverage.pass_time(NOW_MS)
    assert "AUSDT" not in coverage.owed_minutes()


async def test_bars_over_rest_that_are_not_valid_are_left_out_and_so_still_owed():
    async def get(request: Request) -> Any:
        times = [MINUTE_OPEN_MS - n * MINUTE_MS for n in (3, 2, 1)]
        highs = ["2", "NaN", "0.5"]
        return [
            [t, "1", high, "1", "1", "1", t, "1", 1, "1", "1", "0"]
            for t, high in zip(times, highs, strict=True)
        ]

    first_ms, last_ms = MINUTE_OPEN_MS - 3 * MINUTE_MS, MINUTE_OPEN_MS - MINUTE_MS
    bars = await klines_page(BinanceFutures(), get, "AUSDT", "1m", first_ms, last_ms, NOW_MS)
    assert bars is not None
    assert bars.open_time_ms.tolist() == [first_ms]


async def test_a_forming_candle_with_a_late_time_does_not_make_those_that_follow_look_old():
    wrong = frame("AUSDT", MINUTE_OPEN_MS, closed=False, event_ts_ms=NOW_MS + 110_000)
    right = frame("AUSDT", MINUTE_OPEN_MS, closed=False, event_ts_ms=NOW_MS + AGREE_MS + 1)
    published, _, _ = await pumped(wrong, right)
    assert len(published.rows) == 2


async def test_a_ticker_with_a_late_time_does_not_make_those_that_follow_look_old():
    feed = TickerFeed(BinanceFutures(), cast(Any, None), cast(Any, None), ManualClock(NOW_MS))
    feed._followed = frozenset({"AUSDT"})
    wrong = Ticker("AUSDT", 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, NOW_MS + 3_600_000)
    feed.put([wrong])
    feed.put([replace(wrong, last_price=2.0, event_ts_ms=NOW_MS + 1)])
    assert feed._waiting["AUSDT"].last_price == 2.0


async def test_rest_bars_that_end_in_the_future_still_form_and_are_left_out():
    async def get(request: Request) -> Any:
        row = ["1", "1", "1", "1", "1"]
        times = range(MINUTE_OPEN_MS - 2 * MINUTE_MS, MINUTE_OPEN_MS + 2 * MINUTE_MS, MINUTE_MS)
        return orjson.loads(orjson.dumps([[t, *row, t, "1", 1, "1", "1", "0"] for t in times]))

    first_ms, last_ms = MINUTE_OPEN_MS - 2 * MINUTE_MS, MINUTE_OPEN_MS + MINUTE_MS
    bars = await klines_page(BinanceFutures(), get, "AUSDT", "1m", first_ms, last_ms, NOW_MS)
    assert bars is not None
    assert bars.open_time_ms.tolist() == [first_ms, first_ms + MINUTE_MS]
    assert np.all(bars.closed)
