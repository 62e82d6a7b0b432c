"""Two backtests side by side."""

from __future__ import annotations

import numpy as np
import pytest

from app.backtest.backtest import Entry
from app.backtest.compare import UNMATCHED_MAX, AlertComparison
from app.candles.batch import MINUTE_MS
from tests.support.candle_history import START_MS


def entry(minute: int, symbol: str = "AUSDT", rule_type: str = "rule") -> Entry:
    return Entry(START_MS + minute * MINUTE_MS, rule_type, symbol, f"{rule_type}-{symbol}-{minute}")


def compared(before: list[Entry], after: list[Entry]) -> dict[str, tuple[int, int, int, int]]:
    comparison = AlertComparison()
    comparison.take(before, after)
    return comparison.counts()


def test_a_comparison_tells_kept_added_removed_and_moved_alerts():
    before = [entry(1), entry(20), entry(100), entry(5, "BUSDT"), entry(5, rule_type="old")]
    after = [entry(1), entry(23), entry(130), entry(8, "CUSDT"), entry(5, rule_type="new")]
    assert compared(before, after) == {"new": (0, 1, 0, 0), "old": (0, 0, 1, 0), "rule": (1, 2, 2, 1)}
    assert compared([], []) == {}


def test_each_alert_moves_once_to_the_nearest():
    assert compared([entry(10), entry(14)], [entry(13), entry(29)]) == {"rule": (0, 1, 1, 1)}
    assert compared([entry(10), entry(14)], [entry(13), entry(20)]) == {"rule": (0, 0, 0, 2)}
    assert compared([entry(10)], [entry(25)]) == {"rule": (0, 0, 0, 1)}
    assert compared([entry(10)], [entry(26)]) == {"rule": (0, 1, 1, 0)}


@pytest.mark.parametrize("step", [1, 7, 60])
def test_alerts_taken_step_by_step_compare_as_all_at_once(step):
    rng = np.random.default_rng(step)
    for _ in range(30):
        before, after = (
            [entry(minute, symbol) for minute in range(300) for symbol in ("A", "B") if rng.random() < 0.06]
            for _ in range(2)
        )
        comparison = AlertComparison()
        for at in range(0, 300, step):
            inside = range(START_MS + at * MINUTE_MS, START_MS + (at + step) * MINUTE_MS)
            comparison.take(*([e for e in some if e.open_time_ms in inside] for some in (before, after)))
        assert comparison.counts() == compared(before, after)


def test_a_chain_without_an_end_is_compared_in_parts():
    comparison = AlertComparison()
    for minute in range(10 * UNMATCHED_MAX):
        comparison.take([entry(minute)], [])
    assert len(comparison._unmatched["rule", "AUSDT"]) <= UNMATCHED_MAX
    assert comparison.counts() == {"rule": (0, 0, 10 * UNMATCHED_MAX, 0)}
