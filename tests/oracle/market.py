"""Rules that look at all symbols, by brute force: minute by minute, symbol by symbol, with sorted lists and sums.

The candles must have no gaps: every minute of every symbol is known when the next one begins.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tests.oracle.windows import windows_of

MINUTE_MS = 60_000
COOLDOWN_MS = 300_000
Alert = tuple[str, str, int]
"""rule_type, symbol, open time in UTC ms."""
Values = Sequence[float | None]
"""One value per symbol."""

RULES: Mapping[str, str] = {
    "wide_strongest": "rank(price_change_5m) <= 3 and price_change_5m > 1.5",
    "wide_breadth": "share(price_change_15m < -1) > 0.6 and pct_rank(volume_15m) > 0.95",
    "wide_relative": "price_change_1h - of(ETHUSDT, price_change_1h) > 4",
    "wide_decoupled": "corr(ETHUSDT, 30m) < -0.2 and beta(ETHUSDT, 30m) < -0.3",
    "wide_outlier": "price_change_5m > median(price_change_5m) + 3 and price_change_5m > 3 * mean(price_change_5m)",
    "wide_new_leader": "rank(volume_5m) == 1 and prev(rank(volume_5m)) > 1",
}
REFERENCE = "ETHUSDT"


class Market:
    """Percent changes and turnovers of every symbol, by minute; None is null."""

    def __init__(self, columns: Mapping[str, NDArray[np.generic]]) -> None:
        """columns: symbol, open_time_ms, close, quote_volume of each candle."""
        self.symbols = sorted(set(columns["symbol"].tolist()))
        self.change: dict[str, list[Values]] = {}
        self.volume: dict[str, list[Values]] = {}
        changes: dict[str, list[list[float]]] = {}
        volumes: dict[str, list[list[float]]] = {}
        closes: list[list[float]] = []
        for symbol in self.symbols:
            of = columns["symbol"] == symbol
            times, close = columns["open_time_ms"][of], columns["close"][of]
            windows = windows_of(times, close, columns["quote_volume"][of])
            assert windows.present.all(), symbol
            self.minutes_ms = windows.minutes_ms.tolist()
            closes.append(close[np.argsort(times)].tolist())
            for name in ("5m", "15m", "1h"):
                changes.setdefault(name, []).append(windows.price_change[name].tolist())
                volumes.setdefault(name, []).append(windows.volume[name].tolist())
        for name in changes:
            self.change[name] = _by_minute(changes[name])
            self.volume[name] = _by_minute(volumes[name])
        self.returns = [
            [math.nan, *((now / before - 1) * 100 for before, now in pairwise(close))] for close in closes
        ]


def _by_minute(of_symbols: list[list[float]]) -> list[Values]:
    return [[None if math.isnan(value) else value for value in row] for row in zip(*of_symbols, strict=True)]


def market_alerts(columns: Mapping[str, NDArray[np.generic]]) -> set[Alert]:
    """Return the alerts of RULES, each with the default cooldown."""
    market = Market(columns)
    last: dict[tuple[str, str], int] = {}
    found: set[Alert] = set()
    for at, minute_ms in enumerate(market.minutes_ms):
        for rule_type, holds in _CONDITIONS.items():
            for position in holds(market, at):
                key = (rule_type, market.symbols[position])
                if key not in last or minute_ms - last[key] >= COOLDOWN_MS:
                    last[key] = minute_ms
                    found.add((*key, minute_ms))
    return found


def _rank(values: Values, position: int) -> int | None:
    own = values[position]
    return None if own is None else 1 + sum(other is not None and other > own for other in values)


def _known(values: Values) -> list[float]:
    return [value for value in values if value is not None]


def _strongest(market: Market, at: int) -> list[int]:
    changes = market.change["5m"][at]
    ranks = [_rank(changes, position) for position in range(len(changes))]
    return [
        position
        for position, (rank, change) in enumerate(zip(ranks, changes, strict=True))
        if rank is not None and rank <= 3 and change is not None and change > 1.5
    ]


def _breadth(market: Market, at: int) -> list[int]:
    falls = [change < -1 for change in _known(market.change["15m"][at])]
    volumes = market.volume["15m"][at]
    if len(falls) < 2 or sum(falls) / len(falls) <= 0.6:
        return []
    found = []
    for position, own in enumerate(volumes):
        others = _known([*volumes[:position], *volumes[position + 1 :]])
        if own is not None and others:
            below = sum(1.0 if other < own else 0.5 if other == own else 0.0 for other in others)
            if below / len(others) > 0.95:
                found.append(position)
    return found


def _relative(market: Market, at: int) -> list[int]:
    changes = market.change["1h"][at]
    reference = changes[market.symbols.index(REFERENCE)]
    if reference is None:
        return []
    return [p for p, change in enumerate(changes) if change is not None and change - reference > 4]


def _decoupled(market: Market, at: int, minutes: int = 30) -> list[int]:
    if at < minutes:
        return []
    first = at - minutes + 1
    of_reference = market.returns[market.symbols.index(REFERENCE)][first : at + 1]
    if statistics.pvariance(of_reference) == 0:
        return []
    found = []
    for position, returns in enumerate(market.returns):
        own = returns[first : at + 1]
        if len(set(own)) == 1:
            continue
        slope = statistics.linear_regression(of_reference, own).slope
        if statistics.correlation(of_reference, own) < -0.2 and slope < -0.3:
            found.append(position)
    return found


def _outlier(market: Market, at: int) -> list[int]:
    changes = market.change["5m"][at]
    known = _known(changes)
    if len(known) < 2:
        return []
    middle, average = statistics.median(known), statistics.fmean(known)
    return [
        position
        for position, change in enumerate(changes)
        if change is not None and change > middle + 3 and change > 3 * average
    ]


def _new_leader(market: Market, at: int) -> list[int]:
    if at == 0:
        return []
    found = []
    for position in range(len(market.symbols)):
        before = _rank(market.volume["5m"][at - 1], position)
        if _rank(market.volume["5m"][at], position) == 1 and before is not None and before > 1:
            found.append(position)
    return found


_CONDITIONS: Mapping[str, Callable[[Market, int], list[int]]] = {
    "wide_strongest": _strongest,
    "wide_breadth": _breadth,
    "wide_relative": _relative,
    "wide_decoupled": _decoupled,
    "wide_outlier": _outlier,
    "wide_new_leader": _new_leader,
}
