"""Returns of random entries at the symbols of a rule's alerts, and the chance that they do as well.

The random entries of a rule are all its alerts moved together by a random time; alerts moved past the end of the
period continue at its beginning. So they have the same symbols and the same clusters as the alerts: a crash in which
seventy symbols fire at once counts as about one event, not as seventy independent ones, which keeps the p-value
honest. p is two-sided: the share of moves (with the alerts themselves among them) whose mean return lies at least as
far from the moves' average as that of the alerts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.backtest.prices import ClosePrices
from app.backtest.tally import Sample
from app.candles.batch import MINUTE_MS, FloatArray

MOVES: Final = 499
"""So that p can be as low as 0.002."""


def moved_returns(
    sample: Sample, prices: ClosePrices, start: int, horizons: Sequence[int], seed: int
) -> list[FloatArray]:
    """Return, per horizon, the returns of the moved alerts in percent, each of shape (moves, alerts), NaN if unknown.

    start: how many minutes after the first recorded one the rule could first fire. horizons: in minutes.
    """
    period = prices.minutes - start
    moves = _moves(period, np.random.default_rng(seed))
    found = [np.full((len(moves), len(sample.minutes)), np.nan) for _ in horizons]
    rows = sample.minutes - prices.first_ms // MINUTE_MS - start
    for column in np.unique(sample.columns).tolist():
        closes = prices.series(column)[start:]
        alerts = np.flatnonzero(sample.columns == column)
        at = (rows[alerts] + moves[:, None]) % period
        now = closes[at]
        for returns, minutes in zip(found, horizons, strict=True):
            later = at + minutes
            then = np.where(later < period, closes[np.minimum(later, period - 1)], np.nan)
            returns[:, alerts] = (then / now - 1) * 100
    return found


def p_value(actual: FloatArray, moved: FloatArray) -> float | None:
    """Return p; None if no moved return is known. actual: known returns of the alerts. moved: (moves, alerts)."""
    known = ~np.isnan(moved)
    counts = known.sum(axis=1)
    sums = np.where(known, moved, 0.0).sum(axis=1)
    means = sums[counts > 0] / counts[counts > 0]
    if not len(means):
        return None
    centre = means.mean()
    distance = abs(actual.mean() - centre)
    as_far = np.count_nonzero(np.abs(means - centre) >= distance)
    return float(1 + as_far) / (1 + len(means))


def _moves(minutes: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return distinct moves other than zero; all of them if there are no more than MOVES."""
    if minutes - 1 <= MOVES:
        return np.arange(1, minutes)
    return rng.choice(np.arange(1, minutes), MOVES, replace=False).astype(np.intp)
