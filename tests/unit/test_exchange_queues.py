"""What waits in the feed: bounded, in order, and what is left out is of no use any more."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from app.candles.batch import CandleBatch
from app.clock import ManualClock
from app.feed.exchange_clock import ExchangeClock
from app.feed.exchanges.bybit import BybitLinear
from app.feed.exchanges.rate_limit import RateLimit
from app.feed.frame_queue import FrameQueue
from app.feed.publish_queue import PublishQueue, thinned
from app.feed.pump import Pump, newest_so_far
from app.telemetry import feed_metrics
from tests.support.candle_batches import Candle, batch_of, rows_of

METRICS = feed_metrics(CollectorRegistry())

UPDATES = st.lists(
    st.tuples(st.sampled_from("ABC"), st.integers(0, 5), st.booleans()), min_size=1, max_size=40
)


def batch(updates: list[tuple[str, int, bool]]) -> CandleBatch:
    """Each update with a price of its own."""
    return batch_of([Candle(s, 1_000 + m, 1.0 + at, closed) for at, (s, m, closed) in enumerate(updates)])


@given(UPDATES, st.integers(1, 50))
def test_thinning_keeps_what_is_closed_and_the_last_forming_candle_of_each_symbol(
    updates: list[tuple[str, int, bool]], most: int
):
    rows = rows_of(batch(updates))
    last = {row.symbol: row for row in rows if not row.closed}
    wanted = [row for row in rows if row.closed or last[row.symbol] is row]
    assert rows_of(thinned(batch(updates), most)) == wanted[-most:]


@given(UPDATES)
def test_the_newest_time_so_far_is_that_of_the_symbol_alone(updates: list[tuple[str, int, bool]]):
    made = batch(updates)
    known = {"A": 1_002 * 60_000, "B": 0, "C": 0}
    newest = newest_so_far(made, np.array([known[symbol] for symbol in made.symbols]))
    for row, (symbol, _, _) in enumerate(updates):
        known[symbol] = max(known[symbol], int(made.event_ts_ms[row]))
        assert newest[row] == known[symbol]


async def test_the_outbox_gives_everything_in_order_and_is_thinned_at_its_bound():
    outbox = PublishQueue(METRICS, most_rows=4)
    outbox.add(batch([("A", 1, False), ("A", 1, True)]))
    outbox.add(batch([("B", 1, False)]))
    assert [(row.symbol, row.closed) for row in rows_of(await outbox.take())] == [
        ("A", False), ("A", True), ("B", False),
    ]  # fmt: skip
    for minute in range(50):
        outbox.add(batch([("A", minute, False)]))
        assert outbox.rows <= 5
    assert rows_of(await outbox.take())[-1].minute == 1_049


class Published:
    """A publisher that remembers."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, bool]] = []
        self.flushed = False

    async def publish(self, made: CandleBatch) -> None:
        self.rows += [(row.symbol, row.closed) for row in rows_of(made)]

    async def flush(self) -> None:
        self.flushed = True


OVER_MS = 1_626_992_760_000


async def test_what_was_received_and_not_read_yet_is_sent_with_the_last_words():
    inbox, published = FrameQueue(), Published()
    pump = Pump(
        BybitLinear(),
        inbox,
        cast(Any, published),
        {"BTCUSDT"},
        ExchangeClock(ManualClock(OVER_MS)),
        ManualClock(OVER_MS),
        METRICS,
    )
    kline = {"start": OVER_MS - 60_000, "confirm": True, "volume": "1", "turnover": "10"}
    prices = {name: "10" for name in ("open", "high", "low", "close")}
    inbox.add(orjson.dumps({"topic": "kline.1.BTCUSDT", "ts": OVER_MS, "data": [kline | prices]}))
    await pump.drain()
    assert (published.rows, published.flushed) == ([("BTCUSDT", True)], True)


async def test_sockets_wait_while_the_inbox_is_full():
    inbox = FrameQueue(most_frames=3)
    for number in range(3):
        await inbox.room()
        inbox.add(b"%d" % number)
    waiting = asyncio.create_task(inbox.room())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    assert inbox.take(2) == [b"0", b"1"]
    await waiting
    assert inbox.take(9) == [b"2"]
    assert len(inbox) == 0


class Time:
    """Seconds that pass when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1_000_000 * 60.0

        async def sleep(for_s: float) -> None:
            self.now_s += for_s

        monkeypatch.setattr("app.feed.exchanges.rate_limit.asyncio.sleep", sleep)

    def __call__(self) -> float:
        return self.now_s


async def test_requests_wait_for_the_next_minute_when_four_fifths_of_the_limit_are_used(
    monkeypatch: pytest.MonkeyPatch,
):
    now = Time(monkeypatch)
    began_s = now()
    limit = RateLimit(100, METRICS, now)
    for _ in range(8):
        await limit.acquire(10)
    assert now() == began_s
    await limit.acquire(10)
    assert began_s + 60 <= now() < began_s + 70


async def test_what_the_exchange_counts_for_our_address_counts_more_than_our_own_sum(
    monkeypatch: pytest.MonkeyPatch,
):
    now = Time(monkeypatch)
    began_s = now()
    limit = RateLimit(100, METRICS, now)
    limit.note_used(79)
    await limit.acquire(1)
    assert now() == began_s
    await limit.acquire(1)
    assert now() >= began_s + 60


async def test_a_pause_is_kept_to_its_end_and_a_shorter_one_does_not_cut_it(monkeypatch: pytest.MonkeyPatch):
    now = Time(monkeypatch)
    began_s = now()
    limit = RateLimit(100, METRICS, now)
    limit.pause(130.0)
    limit.pause(5.0)
    await limit.acquire(1)
    assert began_s + 130 <= now() < began_s + 140
    assert limit.paused_s == 0


async def test_a_request_dearer_than_the_limit_is_sent_alone_and_not_never(monkeypatch: pytest.MonkeyPatch):
    now = Time(monkeypatch)
    limit = RateLimit(10, METRICS, now)
    await limit.acquire(40)
    assert now() == 1_000_000 * 60.0
