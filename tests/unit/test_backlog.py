"""What two numbers, looked at now and then, say of a backlog."""

from __future__ import annotations

from app.process.health.backlog import Backlog, Waiting


def test_nothing_waits_where_all_is_handled() -> None:
    backlog = Backlog()
    assert backlog.look(5, 5, 1_000) == Waiting()
    assert backlog.look(9, 9, 2_000) == Waiting(handled_ms=2_000)


def test_the_oldest_waits_since_it_was_first_seen_and_still_since_nothing_moved() -> None:
    backlog = Backlog()
    backlog.look(5, 5, 1_000)
    assert backlog.look(8, 5, 2_000) == Waiting(3, 2_000, 2_000, None)
    assert backlog.look(10, 5, 3_000) == Waiting(5, 2_000, 2_000, None)
    assert backlog.look(10, 7, 4_000) == Waiting(3, 2_000, 4_000, 4_000)
    assert backlog.look(12, 8, 5_000) == Waiting(4, 3_000, 5_000, 5_000)
    assert backlog.look(12, 8, 9_000) == Waiting(4, 3_000, 5_000, 5_000)
    assert backlog.look(12, 12, 10_000) == Waiting(handled_ms=10_000)


def test_a_log_that_began_anew_forgets_what_waited() -> None:
    backlog = Backlog()
    backlog.look(100, 50, 1_000)
    assert backlog.look(3, 0, 2_000) == Waiting(3, 2_000, 2_000, None)
    assert backlog.look(3, 3, 3_000) == Waiting(handled_ms=3_000)


def test_a_backlog_that_grows_for_hours_is_bounded_and_its_age_stays_true() -> None:
    backlog = Backlog()
    for second in range(5_000):
        waiting = backlog.look(second + 1, 0, second * 1_000)
    assert waiting == Waiting(5_000, 0, 0, None)
    assert len(backlog._written) == 1_000


def test_the_worst_of_several_partitions_counts() -> None:
    parts = [Waiting(), Waiting(2, 5_000, 7_000, 7_000), Waiting(1, 6_000, 6_000, None)]
    assert Waiting.worst_of(parts) == Waiting(3, 5_000, 6_000, 7_000)
