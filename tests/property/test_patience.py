"""How long the bridge gathers: quick for rare bursts, patient under a steady load, never longer than it may."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.nats.patience import QUICK_PAUSE_S, Patience

MAX_DELAY_S = 0.06
PATIENT_PAUSE_S = MAX_DELAY_S / 3


def gathered(
    patience: Patience, arrivals_s: list[float], closes_s: Collection[float] = ()
) -> list[list[float]]:
    """The batches that a bridge would make of messages arriving at these times (ascending). closes_s: those of closed
    candles."""
    batches: list[list[float]] = []
    waiting = list(arrivals_s)
    now_s = 0.0
    while waiting:
        now_s = max(now_s, waiting[0])
        patience.begin(now_s)
        while True:
            before = sum(1 for at in waiting if at <= now_s)
            if any(at in closes_s for at in waiting[:before]):
                patience.has_close(now_s)
                now_s += patience.pause_s
            else:
                now_s = min([now_s + patience.pause_s, *(at for at in waiting[before:] if at in closes_s)])
            after = sum(1 for at in waiting if at <= now_s)
            if after > before:
                patience.heard(now_s)
            if patience.used_up(now_s) or after == before:
                break
        batches.append([at for at in waiting if at <= now_s])
        waiting = [at for at in waiting if at > now_s]
    return batches


def test_a_burst_after_a_quiet_spell_is_one_batch_and_waits_for_milliseconds():
    patience = Patience(MAX_DELAY_S)
    patience.begin(10.0)
    assert patience.pause_s == QUICK_PAUSE_S
    patience.heard(10.008)
    assert patience.pause_s == pytest.approx(0.004)
    burst = [20.0 + n * 0.00002 for n in range(500)]
    assert gathered(Patience(MAX_DELAY_S), burst) == [burst]


def test_a_burst_that_comes_in_six_pieces_is_still_quick():
    patience = Patience(MAX_DELAY_S)
    for piece in range(6):
        patience.begin(5.0 + piece / 100)
        assert patience.pause_s == QUICK_PAUSE_S
    patience.begin(5.06)
    assert patience.pause_s == PATIENT_PAUSE_S


def test_a_quiet_minute_makes_bursts_quick_again():
    patience = Patience(MAX_DELAY_S)
    for n in range(50):
        patience.begin(n * 0.05)
    assert patience.pause_s == PATIENT_PAUSE_S
    patience.begin(60.0)
    assert patience.pause_s == QUICK_PAUSE_S


def test_a_steady_load_makes_few_batches():
    arrivals_s = [n * 0.002 for n in range(5_000)]
    batches = gathered(Patience(MAX_DELAY_S), arrivals_s)
    # ten seconds: one patient batch per longest delay, and a quick one for every five of those
    assert len(batches) <= 10.0 / MAX_DELAY_S * 1.25 + 8


def test_closes_among_forming_candles_wait_for_milliseconds():
    forming_s = [n * 0.01 for n in range(500)]
    closes_s = [4.0031 + n * 0.00001 for n in range(500)]
    batches = gathered(Patience(MAX_DELAY_S), sorted(forming_s + closes_s), set(closes_s))
    [batch] = [batch for batch in batches if closes_s[0] in batch]
    assert closes_s[-1] in batch
    assert batch[-1] <= closes_s[-1] + 2 * QUICK_PAUSE_S


def test_closes_that_come_spread_over_a_second_wait_a_third_of_the_longest_delay():
    closes_s = [4.0 + n * 0.002 for n in range(500)]
    batches = gathered(Patience(MAX_DELAY_S), closes_s, set(closes_s))
    assert max(batch[-1] - batch[0] for batch in batches) <= MAX_DELAY_S / 3 + MAX_DELAY_S / 6


def test_a_replay_of_closed_candles_makes_few_batches():
    arrivals_s = [n * 0.002 for n in range(15_000)]
    batches = gathered(Patience(MAX_DELAY_S), arrivals_s, set(arrivals_s))
    # thirty seconds: those of a steady load, sixty short ones, and one for every two longest delays
    assert len(batches) <= 30.0 / MAX_DELAY_S * (1.25 + 1 / 2) + 8 + 60


def test_without_a_delay_nothing_waits():
    patience = Patience(0.0)
    patience.begin(1.0)
    assert patience.pause_s == 0.0
    assert patience.used_up(1.0)


@given(st.lists(st.tuples(st.floats(0, 0.03), st.booleans()), max_size=200))
def test_every_message_is_in_one_batch_and_none_waits_longer_than_the_longest_delay_and_a_pause(
    messages: list[tuple[float, bool]],
):
    arrivals_s, closes_s, at_s = [], set(), 1.0
    for pause_s, is_close in messages:
        at_s += pause_s
        arrivals_s.append(at_s)
        if is_close:
            closes_s.add(at_s)
    batches = gathered(Patience(MAX_DELAY_S), arrivals_s, closes_s)
    assert [at for batch in batches for at in batch] == arrivals_s
    assert all(batch[-1] - batch[0] <= MAX_DELAY_S + PATIENT_PAUSE_S + 1e-9 for batch in batches)
