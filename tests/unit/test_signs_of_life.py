"""What the signs of life of all processes say of a role."""

from __future__ import annotations

import pytest

from app.process.health.signs import Sign, role_states

NOW_MS = 1_709_000_000_000


def sign(process: str, age_s: float, began_s: float, *, ready: bool = True) -> Sign:
    """`age_s`, `began_s`: seconds ago."""
    return Sign("alerts", process, NOW_MS - int(age_s * 1000), NOW_MS - int(began_s * 1000), ready)


@pytest.mark.parametrize(
    ("signs", "state"),
    [
        ([sign("a", 1, 900)], "fresh"),
        ([sign("a", 1, 900, ready=False)], "not_ready"),
        ([sign("a", 20, 900)], "stale"),
        ([sign("a", 20, 900), sign("b", 1, 15)], "fresh"),
        ([sign("killed", 40, 900), sign("again", 1, 30)], "fresh"),
        ([sign(str(n), 1, 20) for n in range(8)], "fresh"),
        ([sign("1", 60, 65), sign("2", 45, 50), sign("3", 25, 30), sign("4", 1, 2)], "restarting"),
        ([sign("1", 60, 65), sign("2", 45, 50), sign("3", 25, 30), sign("4", 20, 22)], "stale"),
        ([sign("1", 600, 605), sign("2", 450, 500), sign("3", 250, 300), sign("4", 1, 2)], "fresh"),
    ],
    ids=[
        "one at work",
        "not ready",
        "stopped",
        "replaced",
        "killed once",
        "replicas begun together",
        "ends again and again",
        "ended again and again and is dead",
        "ended long ago",
    ],
)
def test_a_role_is_as_well_as_its_best_process_unless_it_ends_again_and_again(
    signs: list[Sign], state: str
) -> None:
    assert role_states(signs, NOW_MS)["alerts"].state == state


def test_a_role_without_any_sign_is_left_out() -> None:
    assert role_states([], NOW_MS) == {}
