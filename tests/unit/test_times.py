"""Times in milliseconds, as datetimes and as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from app.times import rfc3339, utc, utc_ms

TIMES_MS = st.integers(0, 4_102_444_800_000)


@given(TIMES_MS)
def test_a_time_is_the_same_after_it_was_a_datetime(time_ms: int) -> None:
    assert utc_ms(utc(time_ms)) == time_ms


@given(TIMES_MS)
def test_the_text_of_a_time_is_read_back_as_the_same_time(time_ms: int) -> None:
    assert utc_ms(datetime.fromisoformat(rfc3339(time_ms))) == time_ms


def test_a_time_without_a_zone_is_utc_and_one_with_a_zone_is_not_moved() -> None:
    at_midnight = datetime(2024, 1, 1)
    assert utc_ms(at_midnight) == utc_ms(at_midnight.replace(tzinfo=UTC)) == 1_704_067_200_000
    east = at_midnight.replace(tzinfo=timezone(timedelta(hours=2)))
    assert utc_ms(east) == 1_704_067_200_000 - 2 * 3_600_000


def test_text_has_milliseconds_and_a_z() -> None:
    assert rfc3339(1_618_617_660_007) == "2021-04-17T00:01:00.007Z"
