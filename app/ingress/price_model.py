"""The price and volume model behind the simulated market: pure, seeded, one minute after the other.

Log prices follow a common market factor and a part of their own, with volatility that clusters (slow
autoregressions and three regimes), volume that grows with volatility, and now and then an event on one symbol
or on all of them: a ramp that accelerates and is partly given back, or a plunge that snaps back.

Every UTC day stands for itself: it starts at prices given by the seed and the day, and drifts towards those
of the next. So the market is a function of seed and time, and one that is started later tells the same story.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.candles.batch import FloatArray

MINUTES_A_DAY: Final = 1440
STEPS: Final = 20
"""Price moves per minute, one in 3 s."""
_HORIZON: Final = 128
"""Minutes ahead for which events are laid out; longer than any event."""
_REGIMES: Final = np.array([0.6, 1.0, 2.0])
"""Volatility of the whole market: calm, usual, turbulent."""
_REGIME_CHANGE: Final = 1 / 240
"""Chance per minute, so that a regime lasts about four hours."""
_EVENT: Final = 1 / 600
"""Chance of an event per symbol and minute."""
_MARKET_EVENT: Final = 1 / 480
"""Chance per minute of an event that takes all symbols along."""
_MARKET_SIGMA: Final = 0.0005
"""Standard deviation of the market factor's move in one minute, log price, in the usual regime."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What the symbols are like; every array has shape (symbols,)."""

    log_price: FloatArray
    """Around which the prices of all days lie."""
    turnover: FloatArray
    """Usual quote volume per minute."""
    beta: FloatArray
    """Share in the moves of the market factor."""
    sigma: FloatArray
    """Standard deviation of the symbol's own move in one minute, log price, in the usual regime."""


@dataclass(frozen=True, slots=True)
class MinutePath:
    """One minute of every symbol in equal steps.

    log_price: shape (STEPS + 1, symbols), starting where the minute before ended.
    quote_volume: shape (STEPS, symbols), quote asset traded during each step.
    """

    log_price: FloatArray
    quote_volume: FloatArray


def midnight_log_price(listing: Listing, seed: int, day: int) -> FloatArray:
    """Where prices stand at 00:00 UTC of `day` (days since 1970), shape (symbols,)."""
    random = np.random.default_rng([seed, day, 0])
    own = random.normal(0.0, 0.025, len(listing.log_price))
    level: FloatArray = listing.log_price + 0.02 * random.normal() * listing.beta + own
    return level


class DayModel:
    """One UTC day (days since 1970) of the market; `next_minute` gives its 1,440 minutes in order."""

    def __init__(self, listing: Listing, seed: int, day: int) -> None:
        self._listing = listing
        self._random = np.random.default_rng([seed, day, 1])
        symbols = len(listing.log_price)
        self._log_price = midnight_log_price(listing, seed, day)
        self._target = midnight_log_price(listing, seed, day + 1)
        self._minutes_left = MINUTES_A_DAY
        self._log_volatility = self._random.normal(0, 0.3, symbols)
        self._log_activity = self._random.normal(0, 0.38, symbols)
        self._regime = int(self._random.integers(len(_REGIMES)))
        self._event_drift = np.zeros((_HORIZON, symbols))
        self._event_volume = np.ones((_HORIZON, symbols))

    def next_minute(self) -> MinutePath:
        self._start_events()
        drift, volume_factor = self._take_event_minute()
        drift += (self._target - self._log_price) / self._minutes_left
        self._minutes_left -= 1
        volatility = self._next_volatility()
        symbols = len(self._log_price)

        market = _MARKET_SIGMA * _REGIMES[self._regime] * self._random.normal(0, STEPS**-0.5, STEPS)
        own = volatility * self._random.normal(0, STEPS**-0.5, (STEPS, symbols))
        moves = market[:, None] * self._listing.beta + own + drift / STEPS

        log_price = np.empty((STEPS + 1, symbols))
        log_price[0] = self._log_price
        log_price[1:] = self._log_price + np.cumsum(moves, axis=0)
        self._log_price = log_price[-1]

        activity = np.exp(self._log_activity) * volume_factor * (volatility / self._listing.sigma)
        bursts = self._random.exponential(1.0, (STEPS, symbols))
        return MinutePath(log_price, self._listing.turnover * activity * bursts / STEPS)

    def _next_volatility(self) -> FloatArray:
        """Standard deviation of each symbol's own move in this minute, shape (symbols,)."""
        symbols = len(self._log_price)
        if self._random.random() < _REGIME_CHANGE:
            self._regime = int(self._random.integers(len(_REGIMES)))
        self._log_volatility = 0.98 * self._log_volatility + self._random.normal(0, 0.06, symbols)
        self._log_activity = 0.95 * self._log_activity + self._random.normal(0, 0.12, symbols)
        volatility: FloatArray = self._listing.sigma * _REGIMES[self._regime] * np.exp(self._log_volatility)
        return volatility

    def _take_event_minute(self) -> tuple[FloatArray, FloatArray]:
        """Drift (log price) and volume factor that the events put on this minute."""
        drift, volume_factor = self._event_drift[0].copy(), self._event_volume[0].copy()
        self._event_drift[:-1] = self._event_drift[1:]
        self._event_volume[:-1] = self._event_volume[1:]
        self._event_drift[-1] = 0.0
        self._event_volume[-1] = 1.0
        return drift, volume_factor

    def _start_events(self) -> None:
        symbols = len(self._log_price)
        for symbol in np.flatnonzero(self._random.random(symbols) < _EVENT):
            only = np.zeros(symbols)
            only[symbol] = 1.0
            self._lay_out_event(only)
        if self._random.random() < _MARKET_EVENT:
            self._lay_out_event(self._listing.beta * self._random.uniform(0.3, 1.0, symbols))

    def _lay_out_event(self, share: FloatArray) -> None:
        """share: how much of the event each symbol takes, shape (symbols,)."""
        size = self._random.choice([-1.0, 1.0]) * self._random.uniform(0.012, 0.04)
        drift, volume_factor = self._ramp() if self._random.random() < 0.7 else self._plunge()
        minutes = len(drift)
        self._event_drift[:minutes] += size * drift[:, None] * share
        self._event_volume[:minutes] *= 1 + (volume_factor[:, None] - 1) * np.minimum(share, 1.0)

    def _ramp(self) -> tuple[FloatArray, FloatArray]:
        """Ever faster for 8 to 25 minutes, then a third to a half given back in twice that time.

        Shares of the event's size and volume factors, by minute.
        """
        minutes = int(self._random.integers(8, 26))
        way = np.linspace(0.2, 1.8, minutes) / minutes
        back = np.full(2 * minutes, -self._random.uniform(0.3, 0.5) / (2 * minutes))
        rise = np.linspace(1.5, self._random.uniform(4, 12), minutes)
        fall = 1 + (rise[-1] - 1) * np.exp(-np.arange(2 * minutes) / 5)
        return np.concatenate([way, back]), np.concatenate([rise, fall])

    def _plunge(self) -> tuple[FloatArray, FloatArray]:
        """One way for 8 to 14 minutes, half to four fifths of it back within 4, and ten that calm down.

        Shares of the event's size and volume factors, by minute.
        """
        minutes = int(self._random.integers(8, 15))
        way = np.full(minutes, 1 / minutes)
        back = np.full(4, -self._random.uniform(0.5, 0.8) / 4)
        peak = self._random.uniform(6, 14)
        calming = peak ** np.linspace(0.7, 0, 10)
        volume_factor = np.concatenate([np.full(minutes, peak / 3), np.full(4, peak), calming])
        return np.concatenate([way, back, np.zeros(10)]), volume_factor
