"""The fifteen intervals against the calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.local.exchange.intervals import LENGTHS, bar_open, bars_back, close_ms, next_open, opens_between

MINUTES = st.integers(0, 50_000_000)


def calendar_open(interval: str, minute: int) -> datetime:
    """When the bar begins, by the fields of a date."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    midnight = moment.replace(hour=0, minute=0)
    number, unit = int(interval[:-1]), interval[-1]
    match unit:
        case "m":
            return moment.replace(minute=moment.minute // number * number)
        case "h":
            return midnight.replace(hour=moment.hour // number * number)
        case "d":
            return midnight - timedelta(days=(midnight - datetime(1970, 1, 1, tzinfo=UTC)).days % number)
        case "w":
            return midnight - timedelta(days=midnight.weekday())
    return midnight.replace(day=1)


@given(interval=st.sampled_from(list(LENGTHS)), minute=MINUTES)
def test_bars_begin_where_the_calendar_says(interval: str, minute: int):
    opened = bar_open(interval, minute)
    assert datetime.fromtimestamp(opened * 60, UTC) == calendar_open(interval, minute)


@given(interval=st.sampled_from(list(LENGTHS)), minute=MINUTES, count=st.integers(0, 40))
def test_bars_follow_each_other_without_a_hole(interval: str, minute: int, count: int):
    opened = bar_open(interval, minute)
    following = next_open(interval, opened)
    assert bar_open(interval, following - 1) == opened
    assert bar_open(interval, following) == following
    assert close_ms(interval, opened) == following * 60_000 - 1
    opens = opens_between(interval, bars_back(interval, opened, count), opened).tolist()
    assert len(opens) == count + 1
    assert [next_open(interval, one) for one in opens[:-1]] == opens[1:]


@pytest.mark.parametrize(
    ("interval", "opened"), [("1w", "2024-02-26"), ("1M", "2024-02-01"), ("1d", "2024-02-29")]
)
def test_a_leap_day_lies_in_its_week_and_month(interval: str, opened: str):
    minute = int(datetime(2024, 2, 29, 13, 7, tzinfo=UTC).timestamp()) // 60
    assert f"{datetime.fromtimestamp(bar_open(interval, minute) * 60, UTC):%Y-%m-%d}" == opened
