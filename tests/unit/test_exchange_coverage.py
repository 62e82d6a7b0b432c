"""Which minutes are owed: for every order of arrival what a plain list of expected minutes says."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from app.candles.batch import MINUTE_MS
from app.candles.known_minutes import Gap
from app.feed.history.coverage import Coverage, runs
from app.feed.history.missing_minutes import MissingMinutes

START = 28_000_000
MINUTES = st.integers(0, 30)


def ms(minute: int) -> int:
    return (START + minute) * MINUTE_MS


def gap(first: int, last: int, symbol: str = "A") -> Gap:
    return Gap(symbol, ms(first), ms(last))


def coverage(since: int = 0, horizon: int = 100) -> Coverage:
    found = Coverage(horizon)
    found.expect("A", ms(since))
    return found


def test_minutes_between_two_that_came_are_owed():
    owed = coverage()
    for minute in (0, 1, 5):
        owed.take("A", ms(minute))
    assert owed.owed("A") == [gap(2, 4)]
    owed.take("A", ms(3))
    assert owed.owed("A") == [gap(2, 2), gap(4, 4)]
    assert owed.owed_minutes() == {"A": 2}


def test_a_minute_is_owed_when_its_time_has_passed_though_no_later_one_came():
    owed = coverage()
    owed.pass_time(ms(2) + 59_999)
    assert owed.owed("A") == [gap(0, 1)]
    owed.pass_time(ms(3))
    assert owed.owed("A") == [gap(0, 2)]


def test_time_passes_for_the_named_symbols_only():
    owed = coverage()
    owed.expect("B", ms(0))
    owed.pass_time(ms(2), ["B", "C"])
    assert owed.owed_minutes() == {"B": 2}


def test_after_the_last_minute_of_a_symbol_none_is_owed_until_it_goes_on():
    owed = coverage()
    owed.take("A", ms(0))
    owed.end("A", ms(2))
    owed.pass_time(ms(2))
    assert (owed.owed("A"), owed.has_reached("A", ms(2))) == ([gap(1, 1)], False)
    owed.pass_time(ms(9))
    assert (owed.owed("A"), owed.has_reached("A", ms(2))) == ([gap(1, 2)], True)
    owed.end("A", None)
    owed.pass_time(ms(5))
    assert owed.owed("A") == [gap(1, 4)]
    assert not owed.has_reached("B", ms(2))


def test_stored_runs_are_not_owed():
    owed = coverage()
    for run in (gap(-5, 3), gap(6, 8)):
        owed.take_run(run)
    owed.pass_time(ms(10))
    assert owed.owed("A") == [gap(4, 5), gap(9, 9)]


def test_reported_minutes_are_owed_again_but_not_those_to_come_nor_given_up_ones():
    owed = coverage()
    owed.take_run(gap(0, 9))
    owed.give_up(gap(2, 2))
    assert owed.report(gap(3, 4)) == {ms(3), ms(4)}
    assert owed.owed("A") == [gap(3, 4)]
    assert not owed.report(gap(10, 12))
    assert not owed.report(gap(3, 4, "B"))
    assert owed.owed("A") == [gap(3, 4)]


def test_what_is_given_up_is_not_owed_nor_asked_for_when_reported_and_may_still_come():
    owed = coverage()
    owed.pass_time(ms(3))
    owed.give_up(gap(1, 1))
    assert owed.owed("A") == [gap(0, 0), gap(2, 2)]
    assert not owed.report(gap(1, 1))
    owed.take("A", ms(1))
    assert owed.report(gap(1, 1)) == {ms(1)}


def test_of_a_long_gap_only_the_minutes_within_the_horizon_are_owed_again():
    owed = coverage(horizon=10)
    owed.take_run(gap(0, 50))
    assert owed.report(gap(-5_000, 42)) == {ms(41), ms(42)}


def test_what_is_older_than_the_horizon_is_not_owed_any_more():
    owed = coverage(horizon=10)
    owed.pass_time(ms(3))
    owed.pass_time(ms(50))
    assert owed.owed("A") == [gap(40, 49)]


def test_a_forgotten_symbol_owes_nothing_and_begins_anew():
    owed = coverage()
    owed.pass_time(ms(3))
    owed.forget("A")
    owed.take("A", ms(5))
    assert owed.owed("A") == []
    assert "A" not in owed
    owed.expect("A", ms(7))
    owed.pass_time(ms(8))
    assert owed.owed("A") == [gap(7, 7)]


@given(
    arrivals=st.lists(st.one_of(MINUTES, st.tuples(MINUTES, st.just("time")))),
    since=st.integers(0, 10),
)
def test_owed_is_what_was_expected_without_what_came(arrivals: list, since: int):
    owed = coverage(since)
    came: set[int] = set()
    reached = since - 1
    for arrival in arrivals:
        if isinstance(arrival, tuple):
            owed.pass_time(ms(arrival[0]))
            reached = max(reached, arrival[0] - 1)
        else:
            owed.take("A", ms(arrival))
            came.add(arrival)
            reached = max(reached, arrival)
    expected = set(range(since, reached + 1)) - came
    assert owed.owed("A") == runs("A", sorted(ms(minute) for minute in expected))


@given(st.sets(st.integers(0, 60)))
def test_runs_hold_exactly_the_minutes_and_touch_nowhere(minutes: set[int]):
    found = runs("A", sorted(ms(minute) for minute in minutes))
    assert {m for run in found for m in range(run.first_ms, run.last_ms + 1, MINUTE_MS)} == {
        ms(m) for m in minutes
    }
    assert all(left.last_ms + MINUTE_MS < right.first_ms for left, right in itertools.pairwise(found))


def test_a_minute_that_the_exchange_does_not_have_is_asked_for_later_and_later_and_given_up():
    missing = MissingMinutes(give_up_s=100.0)
    assert missing.is_due("A", [1], 0.0)
    assert missing.answered("A", [1], 0.0) == []
    assert not missing.is_due("A", [1], 0.5)
    assert missing.is_due("A", [1], 2.0)
    assert missing.answered("A", [1], 40.0) == []
    assert not missing.is_due("A", [1], 55.0)
    assert missing.is_due("A", [1], 80.0)
    assert missing.answered("A", [1, 2], 100.0) == [1]


def test_a_minute_never_asked_for_does_not_wait_for_the_others():
    missing = MissingMinutes(give_up_s=100.0)
    missing.answered("A", [1], 0.0)
    assert missing.is_due("A", [1, 2], 0.1)


def test_while_the_exchange_does_not_answer_the_waits_grow_and_nothing_is_given_up():
    missing = MissingMinutes(give_up_s=100.0)
    waits = []
    now_s = 0.0
    for _ in range(10):
        missing.failed("A", now_s)
        wait_s = next(s for s in range(1, 100) if missing.is_due("A", [1], now_s + s))
        waits.append(wait_s)
        now_s += wait_s
    assert max(waits[:2]) < 8
    assert min(waits[-3:]) >= 30
    assert max(waits) <= 60
    assert missing.answered("A", [1], now_s) == []
    missing.answered("A", [], now_s)
    assert missing.is_due("A", [1], now_s)
