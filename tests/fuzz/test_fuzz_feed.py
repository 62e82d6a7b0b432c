"""Mutated frames and answers of exchanges in bulk; `FUZZ_INPUTS` tries more."""

from __future__ import annotations

import os

import pytest

from tests.fuzz.feed import fuzz

INPUTS = int(os.environ.get("FUZZ_INPUTS", "25000"))


@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_an_exchange_can_say_ends_the_feed_or_moves_its_clock(seed: int):
    tally = fuzz(seed, INPUTS // 2)
    assert tally.inputs >= INPUTS // 2
    # it must have tried something of each kind
    assert len(tally.kinds) == 11
    assert min(tally.kinds.values()) > tally.inputs / 200
