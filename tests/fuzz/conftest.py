"""Checks that memory stays flat in every fuzz test."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import psutil
import pytest

GROWTH_MAX_MB = 160
"""Enough for the one-time memory of first uses (imports, pools, compiled expressions), but not for a leak."""


@pytest.fixture(autouse=True)
def _memory_stays_flat() -> Iterator[None]:
    """Fail if memory grows too much; `-s` shows the figures."""
    before_mb = resident_mb()
    yield
    after_mb = resident_mb()
    print(f"\nresident: {before_mb:.0f} MB at the start, {after_mb:.0f} MB at the end")
    assert after_mb - before_mb < GROWTH_MAX_MB


def resident_mb() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 2**20
