"""The candles of most replays, and the alerts that they must give."""

from __future__ import annotations

import pytest

from app.candles.batch import CandleBatch
from tests.support.replays import Alert, expected_alerts, market_slice


@pytest.fixture(scope="module")
def candles() -> CandleBatch:
    return market_slice()


@pytest.fixture(scope="module")
def expected(candles: CandleBatch) -> set[Alert]:
    alerts = expected_alerts(candles)
    assert len(alerts) > 400
    return alerts
