"""The rate limit: so many requests a window and client, in memory that stays bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.clock import ManualClock
from app.sidecar.access.rate_limit import WINDOW_MS, RateLimiter


def test_a_client_has_its_requests_and_is_told_what_is_left():
    clock = ManualClock(10 * WINDOW_MS + 20_500)
    limiter = RateLimiter(3, clock)
    found = [limiter.take("a") for _ in range(5)]
    assert [one.allowed for one in found] == [True, True, True, False, False]
    assert [one.headers()["RateLimit-Remaining"] for one in found] == ["2", "1", "0", "0", "0"]
    assert {one.headers()["RateLimit-Reset"] for one in found} == {"40"}
    assert found[3].headers()["Retry-After"] == "40"
    assert "Retry-After" not in found[0].headers()
    assert limiter.take("b").allowed


def test_waiting_as_told_is_enough():
    clock = ManualClock(WINDOW_MS - 1)
    limiter = RateLimiter(1, clock)
    limiter.take("a")
    clock.advance_ms(limiter.take("a").reset_s * 1000)
    assert limiter.take("a").allowed


def test_a_million_addresses_keep_the_memory_flat():
    limiter = RateLimiter(100, ManualClock(0), most_clients=1_000)
    for number in range(1_000_000):
        limiter.take(f"address {number}")
    assert len(limiter) == 1_000
    assert limiter.to_share(10_000) == {}


def test_a_client_at_its_limit_is_remembered_while_others_come_and_go():
    limiter = RateLimiter(20, ManualClock(0), most_clients=100)
    for number in range(10_000):
        limiter.take("busy")
        limiter.take(f"other {number}")
    assert not limiter.take("busy").allowed
    assert len(limiter._to_share) <= 100


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40_000)), max_size=200), st.integers(1, 20))
def test_no_client_gets_more_than_its_limit_in_any_window(requests, per_minute):
    clock = ManualClock(0)
    limiter = RateLimiter(per_minute, clock)
    passed: dict[tuple[str, int], int] = {}
    asked: dict[tuple[str, int], int] = {}
    for client, pause_ms in requests:
        clock.advance_ms(pause_ms)
        key = (client, clock.now_ms() // WINDOW_MS)
        asked[key] = asked.get(key, 0) + 1
        passed[key] = passed.get(key, 0) + limiter.take(client).allowed
    assert passed == {key: min(count, per_minute) for key, count in asked.items()}


def test_what_others_let_pass_counts_here_and_in_its_window_only():
    clock = ManualClock(0)
    limiter = RateLimiter(10, clock)
    for _ in range(4):
        limiter.take("a")
    assert limiter.to_share(100) == {"a": 4}
    assert limiter.to_share(100) == {}
    limiter.heard(0, {"a": 9, "never seen": 50})
    assert limiter.take("a").remaining == 0
    assert not limiter.take("a").allowed
    clock.advance_ms(WINDOW_MS)
    assert limiter.take("a").remaining == 9
    limiter.heard(0, {"a": 10})
    assert limiter.take("a").remaining == 8
