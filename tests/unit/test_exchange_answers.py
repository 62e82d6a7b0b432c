"""Answers of an exchange that are none end nothing."""

from __future__ import annotations

from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from app.clock import ManualClock
from app.errors import ExchangeRefused, ExchangeUnreachable
from app.feed.exchange_clock import ExchangeClock
from app.feed.exchanges.answers import reading_answer
from app.feed.exchanges.bybit import BybitLinear
from app.feed.exchanges.exchange import Request
from app.feed.history.backfill import Backfill, BackfillTimes
from app.feed.history.coverage import Coverage
from app.feed.ticker_feed import TickerFeed
from app.telemetry import feed_metrics

METRICS = feed_metrics(CollectorRegistry())

ANSWERS: list[Any] = [
    {},
    [],
    None,
    "down for maintenance",
    {"retCode": 0, "time": "soon", "result": {"list": [{"symbol": "AUSDT", "lastPrice": "none"}]}},
]


def test_the_error_says_who_was_asked_for_what():
    with (
        pytest.raises(ExchangeUnreachable, match="bybit, asked for its time"),
        reading_answer(BybitLinear(), "its time"),
    ):
        raise KeyError("time")


def test_errors_of_the_exchange_pass():
    with pytest.raises(ExchangeRefused), reading_answer(BybitLinear(), "its time"):
        raise ExchangeRefused("no")


@pytest.mark.parametrize("answer", ANSWERS)
async def test_tickers_that_are_none_do_not_end_those_to_come(answer: Any):
    async def get(_: Request) -> Any:
        return answer

    await TickerFeed(BybitLinear(), get, cast(Any, None), ManualClock(0))._ask()


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_time_that_is_none_leaves_the_one_that_is_known(answer: Any):
    async def get(_: Request) -> Any:
        return answer

    clock = ExchangeClock(ManualClock(10))
    clock.told(5)
    nothing = cast(Any, None)
    backfill = Backfill(
        BybitLinear(), get, nothing, Coverage(1), set(), clock, nothing, nothing, BackfillTimes(), METRICS
    )
    await backfill._time.ask()
    assert clock.now_ms() == 5
