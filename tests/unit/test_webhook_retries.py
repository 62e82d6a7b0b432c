"""The schedule of retries, and what a receiver may ask for."""

from __future__ import annotations

from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.webhooks.delivery.retries import LONGEST_RETRY_AFTER_MS, WAITS_MS, next_attempt_ms, retry_after_ms
from tests.support.database import MIDNIGHT_MS, moment

HOUR_MS = 3_600_000


def test_ten_attempts_over_three_days_and_then_none() -> None:
    now_ms, waits_s = 0, []
    for attempts in range(1, 20):
        at = next_attempt_ms(attempts, now_ms)
        if at is None:
            break
        waits_s.append((at - now_ms) // 1000)
        now_ms = at
    assert waits_s == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert attempts == 10


@given(
    attempts=st.integers(1, len(WAITS_MS) - 1),
    random=st.floats(0, 1, exclude_max=True),
    asked_ms=st.none() | st.integers(0, 10 * LONGEST_RETRY_AFTER_MS),
)
def test_jitter_and_retry_after_only_make_a_wait_longer_and_not_without_bound(
    attempts: int, random: float, asked_ms: int | None
) -> None:
    at = next_attempt_ms(attempts, MIDNIGHT_MS, asked_ms, random)
    assert at is not None
    wait_ms = at - MIDNIGHT_MS
    assert wait_ms >= max(WAITS_MS[attempts], min(asked_ms or 0, LONGEST_RETRY_AFTER_MS))
    assert wait_ms <= max(WAITS_MS[attempts] * 1.1, LONGEST_RETRY_AFTER_MS) + 1
    if asked_ms is None:
        assert wait_ms <= WAITS_MS[attempts] * 1.1 + 1


@pytest.mark.parametrize(
    ("header", "expected_ms"),
    [
        ("0", 0),
        ("7", 7_000),
        ("0.35", 350),
        (" 12 ", 12_000),
        ("1e9", LONGEST_RETRY_AFTER_MS),
        ("inf", LONGEST_RETRY_AFTER_MS),
        (format_datetime(moment(MIDNIGHT_MS + HOUR_MS), usegmt=True), HOUR_MS),
        (format_datetime(moment(MIDNIGHT_MS - HOUR_MS), usegmt=True), 0),
        (format_datetime(moment(MIDNIGHT_MS + 1000 * HOUR_MS), usegmt=True), LONGEST_RETRY_AFTER_MS),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str, expected_ms: int) -> None:
    assert retry_after_ms(header, MIDNIGHT_MS) == expected_ms


@pytest.mark.parametrize(
    "header", [None, "", "-5", "nan", "soon", "Wed, 99 Nov 2023 99:00:00 GMT", "1" * 5000]
)
def test_a_retry_after_that_says_nothing_is_none(header: str | None) -> None:
    assert retry_after_ms(header, MIDNIGHT_MS) is None
