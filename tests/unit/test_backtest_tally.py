"""What is kept of a rule's alerts, however many there are."""

from __future__ import annotations

import numpy as np
import pytest

from app.backtest.tally import STRETCHES, Sample, Stretches
from app.candles.batch import MINUTE_MS

MANY = 20_000


def returns_of(minutes: np.ndarray) -> np.ndarray:
    return np.column_stack((minutes / 1000, np.where(minutes % 5 == 0, np.nan, -1.0)))


@pytest.mark.parametrize("together", [1, 37, MANY])
def test_a_sample_does_not_depend_on_how_the_alerts_come(together):
    minutes = np.arange(MANY)
    sample = Sample(2, seed=1, most=100)
    for at in range(0, MANY, together):
        part = minutes[at : at + together]
        sample.take(part, part % 7, returns_of(part))
    whole = Sample(2, seed=1, most=100)
    whole.take(minutes, minutes % 7, returns_of(minutes))
    assert sample.minutes.tolist() == whole.minutes.tolist()
    assert len(set(whole.minutes.tolist())) == 100
    np.testing.assert_array_equal(sample.columns, sample.minutes % 7)
    np.testing.assert_array_equal(sample.returns_pct, returns_of(sample.minutes))


def test_every_alert_is_as_likely_to_be_in_a_sample_as_any_other():
    minutes = np.arange(1_000)
    chosen = []
    for seed in range(200):
        sample = Sample(2, seed, most=50)
        sample.take(minutes, minutes, returns_of(minutes))
        chosen.append(sample.minutes)
    by_quarter = np.bincount(np.concatenate(chosen) // 250, minlength=4)
    assert by_quarter.sum() == 10_000
    # four standard deviations of a binomial count
    np.testing.assert_allclose(by_quarter, 2_500, atol=180)


def test_stretches_double_in_length_and_lose_no_alert():
    minutes = np.arange(0, 3 * MANY, 3) + 28_400_000
    stretches = Stretches(2)
    for at in range(0, MANY, 999):
        stretches.take(minutes[at : at + 999], returns_of(minutes[at : at + 999]))
    found = stretches.by_time()
    assert STRETCHES / 2 <= len(found) <= STRETCHES
    assert sum(sums.fires for _, sums in found) == MANY
    assert sum(int(sums.known[1]) for _, sums in found) == np.count_nonzero(minutes % 5)
    assert sum(float(sums.sum_pct[0]) for _, sums in found) == pytest.approx(minutes.sum() / 1000)
    starts = [start_ms for start_ms, _ in found]
    assert starts == sorted(starts)
    assert set(np.diff(starts)) == {stretches.minutes * MINUTE_MS}
    assert starts[0] <= minutes[0] * MINUTE_MS < starts[0] + stretches.minutes * MINUTE_MS
