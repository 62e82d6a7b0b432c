"""The alerts of one rule, counted: memory does not grow with how many there are."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.backtest.backtest import Entry
from app.candles.batch import MINUTE_MS, FloatArray, IntArray
from app.candles.intervals import DAY_MS, INTERVALS

SAMPLE: Final = 5_000
"""How many alerts of each rule are kept singly, for medians, distributions and random entries. Of more alerts a
random sample is kept, in which each is as likely as any other."""
NEWEST: Final = 100
"""Alerts of each rule that are listed."""
STRETCHES: Final = 512
"""Most stretches of time of a curve."""
_MONTH: Final = INTERVALS["1M"]


@dataclass(frozen=True, slots=True)
class ListedAlert:
    """price: close of the alert's minute. returns_pct: after each horizon, NaN if unknown."""

    entry: Entry
    price: float
    returns_pct: tuple[float, ...]


class Sums:
    """The number of alerts and, of their known returns per horizon, the number, the sum in percent, and the number
    above 0, each of shape (horizons,)."""

    __slots__ = ("fires", "hits", "known", "sum_pct")

    def __init__(self, horizons: int) -> None:
        self.fires = 0
        self.known = np.zeros(horizons, np.int64)
        self.sum_pct = np.zeros(horizons)
        self.hits = np.zeros(horizons, np.int64)

    def take(self, returns_pct: FloatArray) -> None:
        """returns_pct: (alerts, horizons), NaN if unknown."""
        known = ~np.isnan(returns_pct)
        self.fires += len(returns_pct)
        self.known += known.sum(axis=0)
        self.sum_pct += np.where(known, returns_pct, 0.0).sum(axis=0)
        self.hits += (returns_pct > 0).sum(axis=0)

    def add(self, other: Sums) -> None:
        self.fires += other.fires
        self.known += other.known
        self.sum_pct += other.sum_pct
        self.hits += other.hits


class Sample:
    """SAMPLE alerts at most, each as likely as any other: minute since 1970, column of the symbol, and returns."""

    def __init__(self, horizons: int, seed: int, most: int = SAMPLE) -> None:
        self._most = most
        self._minutes = np.zeros(most, np.int64)
        self._columns = np.zeros(most, np.int64)
        self._returns = np.zeros((most, horizons))
        self._taken = 0
        self._rng = np.random.default_rng(seed)

    @property
    def minutes(self) -> IntArray:
        return self._minutes[: self._taken]

    @property
    def columns(self) -> IntArray:
        return self._columns[: self._taken]

    @property
    def returns_pct(self) -> FloatArray:
        """Shape (alerts, horizons)."""
        return self._returns[: self._taken]

    def take(self, minutes: IntArray, columns: IntArray, returns_pct: FloatArray) -> None:
        """Take alerts in order; how they are divided into calls does not matter."""
        rows, places = self._places(len(minutes))
        self._minutes[places], self._columns[places] = minutes[rows], columns[rows]
        self._returns[places] = returns_pct[rows]
        self._taken += len(minutes)

    def _places(self, alerts: int) -> tuple[NDArray[np.intp], IntArray]:
        """Return which of the next alerts are taken, and the place that each gets (algorithm R)."""
        number = np.arange(self._taken, self._taken + alerts)
        late = number >= self._most
        place = number.copy()
        place[late] = (self._rng.random(int(late.sum())) * (number[late] + 1)).astype(np.int64)
        rows = np.flatnonzero(place < self._most)
        return rows, place[rows]


class Stretches:
    """Sums by equal stretches of time, at most STRETCHES: they double in length when they become more."""

    def __init__(self, horizons: int) -> None:
        self.minutes = 1
        """Length of a stretch."""
        self._horizons = horizons
        self._sums: dict[int, Sums] = {}

    def take(self, minutes: IntArray, returns_pct: FloatArray) -> None:
        at = minutes // self.minutes
        for stretch in np.unique(at).tolist():
            self._sums.setdefault(stretch, Sums(self._horizons)).take(returns_pct[at == stretch])
        while len(self._sums) > STRETCHES:
            self._double()

    def _double(self) -> None:
        halves, self._sums = self._sums, {}
        self.minutes *= 2
        for stretch, sums in halves.items():
            self._sums.setdefault(stretch // 2, Sums(self._horizons)).add(sums)

    def by_time(self) -> list[tuple[int, Sums]]:
        """Return the stretches with alerts: start (UTC ms) and sums, in order of time."""
        return [(at * self.minutes * MINUTE_MS, sums) for at, sums in sorted(self._sums.items())]


class RuleTally:
    """Everything that is kept of the alerts of one rule whose returns are known or never will be."""

    def __init__(self, horizons: int, seed: int) -> None:
        self.whole = Sums(horizons)
        self.months: dict[int, Sums] = {}
        """Start of the calendar month (UTC ms) -> sums."""
        self.stretches = Stretches(horizons)
        self.sample = Sample(horizons, seed)
        self.newest: deque[ListedAlert] = deque(maxlen=NEWEST)
        self.symbols: set[int] = set()

    def take(
        self, entries: list[Entry], columns: IntArray, prices: FloatArray, returns_pct: FloatArray
    ) -> None:
        """Take alerts in order of time, with the price at each. returns_pct: (alerts, horizons)."""
        times_ms = np.array([entry.open_time_ms for entry in entries], np.int64)
        minutes = times_ms // MINUTE_MS
        self.whole.take(returns_pct)
        for month_ms, rows in _by_month(times_ms):
            self.months.setdefault(month_ms, Sums(returns_pct.shape[1])).take(returns_pct[rows])
        self.stretches.take(minutes, returns_pct)
        self.sample.take(minutes, columns, returns_pct)
        self.symbols.update(columns.tolist())
        for row in range(max(0, len(entries) - NEWEST), len(entries)):
            self.newest.append(
                ListedAlert(entries[row], float(prices[row]), tuple(returns_pct[row].tolist()))
            )


def _by_month(times_ms: IntArray) -> list[tuple[int, NDArray[np.intp]]]:
    days = np.unique(times_ms // DAY_MS).tolist()
    months = np.unique([_MONTH.start_of(day * DAY_MS) for day in days])
    at = np.searchsorted(months, times_ms, side="right") - 1
    return [(int(month_ms), np.flatnonzero(at == number)) for number, month_ms in enumerate(months.tolist())]
