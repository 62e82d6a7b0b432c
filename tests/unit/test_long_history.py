"""Which requests fetch the bars that are missing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.feed.history.long_history import missing_pages

FIVE_MS = 300_000


@given(
    stored=st.sets(st.integers(0, 60)),
    first=st.integers(0, 30),
    count=st.integers(0, 40),
    page_bars=st.integers(1, 12),
)
def test_every_missing_bar_is_requested_once_in_pages_that_fit(
    stored: set[int], first: int, count: int, page_bars: int
) -> None:
    last = first + count - 1
    stored_ms = np.array(sorted(stored), np.int64) * FIVE_MS
    pages = list(missing_pages("5m", "AUSDT", stored_ms, first * FIVE_MS, last * FIVE_MS, page_bars))
    bounds = [(page.first_ms // FIVE_MS, page.last_ms // FIVE_MS) for page in pages]
    requested = [bar for begin, end in bounds for bar in range(begin, end + 1)]
    missing = set(range(first, last + 1)) - stored
    assert len(set(requested)) == len(requested)
    assert missing <= set(requested)
    for begin, end in bounds:
        assert end - begin < page_bars
        assert {begin, end} <= missing
