"""Prices within a minute: a path from its open to its close that touches its high and its low."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.candles.batch import FloatArray
from app.local.exchange.market.market import BLOCK
from app.local.exchange.market.planes import Planes, TickArray

STEPS: Final = 120
"""Price moves per minute, one every half second."""
_PATH: Final = 9
"""The purpose of the random numbers; part of their seed."""


@dataclass(frozen=True, slots=True)
class MinutePath:
    """One minute of all contracts as it grows; planes of shape (STEPS, contracts).

    close: price after each step, in ticks. high, low: so far. share: of the minute's volume, so far.
    """

    whole: Planes
    """The minute once it is closed, shape (contracts,)."""
    close: TickArray
    high: TickArray
    low: TickArray
    share: FloatArray

    def at(self, fraction: float, lot: FloatArray, tick: FloatArray) -> Planes:
        """Return the candles after `fraction` (0 to below 1) of the minute, shape (contracts,).

        lot, tick: smallest quantity and price step of each contract.
        """
        step = min(int(fraction * STEPS), STEPS - 1)
        whole, share = self.whole, self.share[step]
        volume = np.floor(whole.volume * share / lot + 1e-9) * lot
        quote_volume = np.clip(
            whole.quote_volume * share, volume * self.low[step] * tick, volume * self.high[step] * tick
        )
        return Planes(
            open=whole.open,
            high=self.high[step],
            low=self.low[step],
            close=self.close[step],
            volume=volume,
            quote_volume=quote_volume,
            taker_volume=np.floor(whole.taker_volume * share / lot + 1e-9) * lot,
            trades=(whole.trades * share).astype(np.int64),
        )


def walk(whole: Planes, seed: int, minute: int) -> MinutePath:
    """Return the path of `minute` (since 1970). The path of a contract does not depend on the number of contracts."""
    contracts = len(whole.open)
    blocks = range(-(-contracts // BLOCK))
    noise = np.concatenate(
        [
            np.random.default_rng([seed, _PATH, minute, block]).standard_normal((STEPS, BLOCK))
            for block in blocks
        ],
        axis=1,
    )[:, :contracts]
    close = _between(whole, noise)
    work = 0.05 + noise**2
    share = np.cumsum(work, axis=0)
    share /= share[-1] * (1 + 1 / STEPS)
    return MinutePath(
        whole,
        close,
        np.maximum(whole.open, np.maximum.accumulate(close, axis=0)),
        np.minimum(whole.open, np.minimum.accumulate(close, axis=0)),
        share,
    )


def _between(whole: Planes, noise: FloatArray) -> TickArray:
    """Return prices in ticks, shape (STEPS, contracts): a random bridge, stretched to the high and to the low."""
    way = (np.arange(1, STEPS + 1) / STEPS)[:, None]
    wandering = np.cumsum(noise, axis=0)
    wandering -= way * wandering[-1]
    span = (whole.high - whole.low).astype(np.float64)
    path = whole.open + (whole.close - whole.open) * way + wandering * (span / STEPS**0.5)
    _stretch(path, np.maximum(whole.open, whole.close), whole.high)
    np.negative(path, out=path)
    _stretch(path, -np.minimum(whole.open, whole.close), -whole.low)
    np.negative(path, out=path)
    columns = np.arange(path.shape[1])
    inner = path[:-1]
    highest, lowest = inner.argmax(axis=0), inner.argmin(axis=0)
    # A level path has both at one step, where the low would overwrite the high.
    lowest = np.where(lowest == highest, (highest + 1) % len(inner), lowest)
    ticks: TickArray = np.round(path).astype(np.int32)
    ticks[highest, columns] = whole.high
    ticks[lowest, columns] = whole.low
    ticks[-1] = whole.close
    np.clip(ticks, whole.low, whole.high, out=ticks)
    return ticks


def _stretch(path: FloatArray, edge: TickArray, extreme: TickArray) -> None:
    """Scale values above `edge`, so that the highest comes to lie at `extreme`."""
    above = path - edge
    reach = above.max(axis=0)
    scale = np.divide(extreme - edge, reach, out=np.zeros_like(reach), where=reach > 0)
    np.copyto(path, edge + above * scale, where=above > 0)
