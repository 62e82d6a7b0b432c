"""Market events of one contract or of all: shapes of price, volume and calm over minutes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.candles.batch import FloatArray


@dataclass(frozen=True, slots=True)
class Event:
    """The effects of an event by minute, each of shape (minutes,).

    drift: added to the log price. volume: factor on turnover. liveliness: factor on all other moves.
    """

    drift: FloatArray
    volume: FloatArray
    liveliness: FloatArray

    def __len__(self) -> int:
        return len(self.drift)


def ramp(random: np.random.Generator) -> Event:
    """Return a move that gets faster for 8 to 25 minutes, and then gives back 30 to 50 percent in twice that time."""
    size = _side(random) * random.uniform(0.012, 0.04)
    minutes = int(random.integers(8, 26))
    way = np.linspace(0.2, 1.8, minutes) / minutes
    back = np.full(2 * minutes, -random.uniform(0.3, 0.5) / (2 * minutes))
    rise = np.linspace(1.5, random.uniform(4, 12), minutes)
    fall = 1 + (rise[-1] - 1) * np.exp(-np.arange(2 * minutes) / 5)
    return _event(size * np.concatenate([way, back]), np.concatenate([rise, fall]))


def plunge(random: np.random.Generator) -> Event:
    """Return a move of 8 to 14 minutes, of which 50 to 80 percent come back within 4, and ten minutes to calm down."""
    size = _side(random) * random.uniform(0.012, 0.04)
    minutes = int(random.integers(8, 15))
    way = np.full(minutes, 1 / minutes)
    back = np.full(4, -random.uniform(0.5, 0.8) / 4)
    peak = random.uniform(6, 14)
    calming = peak ** np.linspace(0.7, 0, 10)
    volume = np.concatenate([np.full(minutes, peak / 3), np.full(4, peak), calming])
    return _event(size * np.concatenate([way, back, np.zeros(10)]), volume)


def whale(random: np.random.Generator) -> Event:
    """Return one large order: 2.2 to 5 percent within 2 to 4 minutes, on turnover that jumps and fades."""
    size = _side(random) * random.uniform(0.022, 0.05)
    minutes = int(random.integers(2, 5))
    back = np.full(20, -random.uniform(0.1, 0.4) / 20)
    peak = random.uniform(8, 25)
    fading = 1 + (peak - 1) * np.exp(-np.arange(20) / 4)
    drift = np.concatenate([np.full(minutes, 1 / minutes), back])
    return _event(size * drift, np.concatenate([np.full(minutes, peak), fading]))


def surge(random: np.random.Generator) -> Event:
    """Return steady buying or selling for 20 to 30 minutes on several times the usual turnover."""
    minutes = int(random.integers(20, 31))
    drift = np.full(minutes, _side(random) * random.uniform(0.0004, 0.0009))
    fading = 1 + 3 * np.exp(-np.arange(10) / 3)
    volume = np.concatenate([np.full(minutes, random.uniform(4.0, 6.5)), fading])
    return _event(np.concatenate([drift, np.zeros(10)]), volume)


def lull(random: np.random.Generator) -> Event:
    """Return 20 to 45 minutes in which prices nearly stand still."""
    minutes = int(random.integers(20, 46))
    return Event(np.zeros(minutes), np.full(minutes, 0.25), np.full(minutes, 0.06))


KINDS: Final = (ramp, plunge, whale, surge, lull)
CHANCES: Final = np.array([0.42, 0.2, 0.08, 0.1, 0.2])
"""How the events of single contracts are shared among the kinds."""
MARKET_KINDS: Final = (ramp, plunge)
MARKET_CHANCES: Final = np.array([0.6, 0.4])


def _side(random: np.random.Generator) -> float:
    return 1.0 if random.random() < 0.5 else -1.0


def _event(drift: FloatArray, volume: FloatArray) -> Event:
    return Event(drift, volume, np.ones(len(drift)))
