"""Answers of an exchange that are none end nothing."""

from __future__ import annotations

from typing import Any, cast

import pytest

from app.clock import ManualClock
from app.errors import ExchangeRefused, ExchangeUnreachable
from app.exchange.answers import reading_answer
from app.exchange.backfill import Backfill, BackfillTimes
from app.exchange.bybit import BybitLinear
from app.exchange.coverage import Coverage
from app.exchange.exchange_clock import ExchangeClock
from app.exchange.ticker_feed import TickerFeed
from app.exchange.venue import Request

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

    clock = ExchangeClock()
    clock.observe(5)
    nothing = cast(Any, None)
    backfill = Backfill(
        BybitLinear(), get, nothing, Coverage(1), set(), clock, nothing, nothing, BackfillTimes()
    )
    await backfill._hear_time()
    assert clock.now_ms() == 5
