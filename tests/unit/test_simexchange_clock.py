"""Simulated time: as fast as asked, and never from the future."""

from __future__ import annotations

from app.clock import ManualClock
from app.local.exchange.exchange import SimulatedClock

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


def test_by_default_it_is_the_present():
    wall = ManualClock(NOW_MS)
    simulated = SimulatedClock(wall)
    wall.advance_ms(1_234)
    assert simulated.now_ms() == NOW_MS + 1_234


def test_a_fast_one_runs_from_the_past_to_the_present_and_stays_there():
    wall = ManualClock(NOW_MS)
    simulated = SimulatedClock(wall, NOW_MS - HOUR_MS, speed=60)
    wall.advance_ms(10_000)
    assert simulated.now_ms() == NOW_MS - HOUR_MS + 600_000
    wall.advance_ms(HOUR_MS)
    assert simulated.now_ms() == NOW_MS + 10_000 + HOUR_MS


def test_one_that_is_begun_in_the_future_runs_on_there():
    wall = ManualClock(NOW_MS)
    simulated = SimulatedClock(wall, NOW_MS + HOUR_MS, speed=2)
    wall.advance_ms(500)
    assert simulated.now_ms() == NOW_MS + HOUR_MS + 1_000
