"""The price and volume model: one UTC day of a block of contracts, from random numbers seeded by day and block.

Log prices follow a common market factor and a part of their own, with volatility that clusters and turnover
that grows with it. The market goes through regimes of some hours (calm, usual, turbulent, rising, falling), a
contract through trends of its own, and now and then an event befalls one or all of them (events.py).

Every day is computed by itself: it starts at prices given by the seed and the day, and ends at the next day's prices.
A whole block is always computed, in one order of operations, so that the number of contracts changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.candles.batch import FloatArray
from app.local.exchange.market.events import CHANCES, KINDS, MARKET_CHANCES, MARKET_KINDS, Event
from app.local.exchange.market.market import BLOCK, DAY_MINUTES

_LISTING, _MIDNIGHT, _MARKET, _OWN = range(4)
"""The purpose of a stream of random numbers; part of its seed."""
_REGIMES: Final = np.array([[0.6, 0.0], [1.0, 0.0], [2.0, 0.0], [1.1, 0.00006], [1.1, -0.00006]])
"""Volatility of the whole market, and drift of the log price a minute: calm, usual, turbulent, up, down."""
_REGIME_MINUTES: Final = 240
_TREND_MINUTES: Final = 180
_TREND_CHANCE: Final = 0.3
_TREND_DRIFT: Final = 0.00012
"""Standard deviation of the drift of the log price per minute, in the trends of single contracts."""
_MARKET_SIGMA: Final = 0.0005
"""Standard deviation of the market factor's move in one minute, log price, in the usual regime."""
_EVENTS_A_DAY: Final = 2.0
"""Events of each contract, on average."""
_MARKET_EVENTS_A_DAY: Final = 3.0
_VOLATILITY_KNOTS: Final = 30
_ACTIVITY_KNOTS: Final = 10
"""Minutes between the points that slow changes are drawn for."""


@dataclass(frozen=True, slots=True)
class ContractTraits:
    """The properties of a block's contracts; every array has shape (BLOCK,).

    log_price: level around which the prices of all days lie. turnover: usual quote volume a minute. beta: share in
    the moves of the market factor. sigma: standard deviation of a contract's own move in one minute, log price.
    """

    log_price: FloatArray
    turnover: FloatArray
    beta: FloatArray
    sigma: FloatArray


@dataclass(frozen=True, slots=True)
class Day:
    """Log prices and turnover, each of shape (1440, BLOCK); `start`, shape (BLOCK,), is where the day opens."""

    start: FloatArray
    close: FloatArray
    high: FloatArray
    low: FloatArray
    turnover: FloatArray


def draw_listing(seed: int, block: int) -> ContractTraits:
    random = np.random.default_rng([seed, _LISTING, block])
    return ContractTraits(
        log_price=random.normal(0.0, 2.0, BLOCK),
        turnover=30_000 * np.exp(random.normal(0.0, 0.8, BLOCK)),
        beta=random.uniform(0.6, 1.5, BLOCK),
        sigma=0.0007 * np.exp(random.normal(0, 0.3, BLOCK)),
    )


def simulate_day(listing: ContractTraits, seed: int, day: int, block: int) -> Day:
    """Return one day of a block. `day`: days since 1970, UTC."""
    market = _MarketDay.draw(seed, day)
    random = np.random.default_rng([seed, _OWN, day, block])
    log_volatility = _slowly(random, _VOLATILITY_KNOTS, correlation=0.55, deviation=0.3)
    log_activity = _slowly(random, _ACTIVITY_KNOTS, correlation=0.6, deviation=0.38)
    happening = _Happening.nothing()
    _own_events(random, happening)
    for event, at, share in market.events:
        happening.add(event, at, share[:BLOCK] * listing.beta)

    relative = np.exp(log_volatility) * market.volatility[:, None] * happening.liveliness
    own_sigma = listing.sigma * relative
    moves = own_sigma * random.standard_normal((DAY_MINUTES, BLOCK))
    moves += market.moves[:, None] * listing.beta * happening.liveliness
    moves += happening.drift + _trends(random)

    start, target = (_midnight(listing, seed, block, at) for at in (day, day + 1))
    close = start + np.cumsum(moves, axis=0)
    close += (np.arange(1, DAY_MINUTES + 1) / DAY_MINUTES)[:, None] * (target - close[-1])
    close[-1] = target
    factor_sigma = _MARKET_SIGMA * market.volatility[:, None] * listing.beta * happening.liveliness
    high, low = _extremes(random, start, close, own_sigma**2 + factor_sigma**2)
    bursts = 0.4 + 0.6 * random.standard_exponential((DAY_MINUTES, BLOCK))
    turnover = listing.turnover * np.exp(log_activity) * happening.volume * relative * bursts
    return Day(start, close, high, low, turnover)


@dataclass(frozen=True, slots=True)
class _MarketDay:
    """The part of a day that all contracts share: `moves` of the market factor and its `volatility`, shape (1440,),
    and the events with their minute and the share that each contract of a block takes."""

    moves: FloatArray
    volatility: FloatArray
    events: list[tuple[Event, int, FloatArray]]

    @staticmethod
    def draw(seed: int, day: int) -> _MarketDay:
        random = np.random.default_rng([seed, _MARKET, day])
        regimes = _REGIMES[random.integers(len(_REGIMES), size=DAY_MINUTES // _REGIME_MINUTES)]
        volatility, drift = np.repeat(regimes, _REGIME_MINUTES, axis=0).T
        moves = _MARKET_SIGMA * volatility * random.standard_normal(DAY_MINUTES) + drift
        events = []
        for _ in range(random.poisson(_MARKET_EVENTS_A_DAY)):
            event = MARKET_KINDS[random.choice(len(MARKET_KINDS), p=MARKET_CHANCES)](random)
            at = int(random.integers(DAY_MINUTES - len(event)))
            events.append((event, at, random.uniform(0.3, 1.0, BLOCK)))
        return _MarketDay(moves, volatility, events)


@dataclass(frozen=True, slots=True)
class _Happening:
    """All events of a day together; each of shape (1440, BLOCK)."""

    drift: FloatArray
    volume: FloatArray
    liveliness: FloatArray

    @staticmethod
    def nothing() -> _Happening:
        shape = (DAY_MINUTES, BLOCK)
        return _Happening(np.zeros(shape), np.ones(shape), np.ones(shape))

    def add(self, event: Event, at: int, share: FloatArray) -> None:
        """share: how much of the event each contract takes, shape (BLOCK,)."""
        minutes = slice(at, at + len(event))
        self.drift[minutes] += event.drift[:, None] * share
        self.volume[minutes] *= 1 + (event.volume[:, None] - 1) * np.minimum(share, 1.0)

    def add_to_one(self, event: Event, at: int, contract: int) -> None:
        minutes = slice(at, at + len(event))
        self.drift[minutes, contract] += event.drift
        self.volume[minutes, contract] *= event.volume
        self.liveliness[minutes, contract] *= event.liveliness


def _own_events(random: np.random.Generator, happening: _Happening) -> None:
    count = int(random.poisson(_EVENTS_A_DAY * BLOCK))
    kinds = random.choice(len(KINDS), size=count, p=CHANCES).tolist()
    contracts = random.integers(BLOCK, size=count).tolist()
    for kind, contract in zip(kinds, contracts, strict=True):
        event = KINDS[kind](random)
        happening.add_to_one(event, int(random.integers(DAY_MINUTES - len(event))), contract)


def _trends(random: np.random.Generator) -> FloatArray:
    """Return the drift of the contracts' own trends, shape (1440, BLOCK)."""
    shape = (DAY_MINUTES // _TREND_MINUTES, BLOCK)
    drift = np.where(random.random(shape) < _TREND_CHANCE, _TREND_DRIFT * random.standard_normal(shape), 0.0)
    return np.repeat(drift, _TREND_MINUTES, axis=0)


def _slowly(random: np.random.Generator, minutes: int, *, correlation: float, deviation: float) -> FloatArray:
    """Return normal values that change slowly, shape (1440, BLOCK): an autoregression with a point every `minutes`,
    and straight lines between the points."""
    points = random.standard_normal((DAY_MINUTES // minutes + 1, BLOCK))
    fresh = (1 - correlation**2) ** 0.5
    for row in range(1, len(points)):
        points[row] = correlation * points[row - 1] + fresh * points[row]
    way = np.tile(np.arange(minutes) / minutes, DAY_MINUTES // minutes)[:, None]
    before, after = np.repeat(points[:-1], minutes, axis=0), np.repeat(points[1:], minutes, axis=0)
    return deviation * (before * (1 - way) + after * way)


def _midnight(listing: ContractTraits, seed: int, block: int, day: int) -> FloatArray:
    """Return log prices at 00:00 UTC of `day`, shape (BLOCK,)."""
    market = np.random.default_rng([seed, _MIDNIGHT, day]).normal()
    own = np.random.default_rng([seed, _MIDNIGHT, day, block]).normal(0.0, 0.025, BLOCK)
    level: FloatArray = listing.log_price + 0.02 * market * listing.beta + own
    return level


def _extremes(
    random: np.random.Generator, start: FloatArray, close: FloatArray, variance: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the highest and lowest log price of each minute, as of a Brownian bridge from its open to its close.

    The law of a bridge's maximum is in Karatzas and Shreve, Brownian Motion and Stochastic Calculus, 4.3.40.
    """
    opened = np.concatenate([start[None], close[:-1]])
    middle, squared = opened + close, (close - opened) ** 2
    above, below = (random.standard_exponential(close.shape) for _ in range(2))
    high = 0.5 * (middle + np.sqrt(squared + 2 * variance * above))
    low = 0.5 * (middle - np.sqrt(squared + 2 * variance * below))
    return high, low
