"""Mutated frames and answers of exchanges in bulk; `FUZZ_INPUTS` tries more."""

from __future__ import annotations

import os

import pytest

from app.feed.exchanges.venues import VENUES
from tests.fuzz.feed import ANSWERS, FRAMES, fuzz

INPUTS = int(os.environ.get("FUZZ_INPUTS", "25000"))


def test_frames_and_answers_of_every_exchange_are_mutated():
    venues = set(VENUES.values())
    assert FRAMES.keys() == venues
    assert ANSWERS.keys() == {
        (venue, kind) for venue in venues for kind in ("klines", "listings", "tickers", "time")
    }


@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_an_exchange_can_say_ends_the_feed_or_moves_its_clock(seed: int):
    tally = fuzz(seed, INPUTS // 2)
    assert tally.inputs >= INPUTS // 2
    # it must have tried something of each kind
    assert len(tally.kinds) == 11
    assert min(tally.kinds.values()) > tally.inputs / 200
