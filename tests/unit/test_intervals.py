"""Bars of the fifteen intervals, against the calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.candles.intervals import INTERVALS

times_ms = st.integers(0, 4_102_444_800_000)


def moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def test_there_are_the_fifteen_of_exchanges():
    assert list(INTERVALS) == (
        "1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M".split()  # noqa: SIM905  # as exchanges list them
    )


@given(times_ms, st.sampled_from(list(INTERVALS.values())))
def test_every_time_lies_in_exactly_the_bar_that_begins_at_its_start(time_ms, interval):
    start_ms = interval.start_of(time_ms)
    assert start_ms <= time_ms < interval.step(start_ms, 1)
    assert interval.start_of(start_ms) == start_ms
    assert interval.step(interval.step(start_ms, 1), -1) == start_ms


@given(times_ms)
def test_bars_begin_where_the_calendar_says(time_ms):
    at = moment(time_ms)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = {name: moment(interval.start_of(time_ms)) for name, interval in INTERVALS.items()}
    assert starts["1M"] == midnight.replace(day=1)
    assert starts["1w"] == midnight - timedelta(days=at.weekday())
    assert starts["1d"] == midnight
    assert (starts["3d"] - datetime(1970, 1, 1, tzinfo=UTC)).days % 3 == 0
    assert starts["8h"] == midnight + timedelta(hours=at.hour // 8 * 8)
    assert starts["15m"] == at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0)


@pytest.mark.parametrize(
    ("months", "expected"), [(1, (2024, 3)), (11, (2025, 1)), (-2, (2023, 12)), (-1, (2024, 1))]
)
def test_months_are_counted_over_years(months, expected):
    february = int(datetime(2024, 2, 1, tzinfo=UTC).timestamp() * 1000)
    found = moment(INTERVALS["1M"].step(february, months))
    assert (found.year, found.month) == expected
