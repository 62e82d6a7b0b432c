"""Memory stays flat, whatever is tried and however long."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import psutil
import pytest

GROWTH_MAX_MB = 160
"""What the first use of each part takes once (imports, pools, compiled expressions) fits in; a leak does not."""


@pytest.fixture(autouse=True)
def _memory_stays_flat() -> Iterator[None]:
    """`-s` shows the figures."""
    before_mb = resident_mb()
    yield
    after_mb = resident_mb()
    print(f"\nresident: {before_mb:.0f} MB at the start, {after_mb:.0f} MB at the end")
    assert after_mb - before_mb < GROWTH_MAX_MB


def resident_mb() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 2**20
