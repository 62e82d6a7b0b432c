"""No message, frame or record from outside ends a role, whatever is wrong with it. See `entry` for the long form."""

from __future__ import annotations

import os

import pytest

from tests.fuzz.entry import Entry

INPUTS = int(os.environ.get("FUZZ_INPUTS", "3000"))
TIMEOUT_S = max(300, INPUTS // 20)


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("seed", [1, 2])
def test_what_enters_is_refused_or_holds_to_its_bounds(seed: int):
    entry = Entry(seed)
    entry.run(INPUTS // 2)
    targets = {target for target, _ in entry.counts}
    assert all(entry.counts[target, used] > 0 for target in targets for used in (True, False)), entry.counts
