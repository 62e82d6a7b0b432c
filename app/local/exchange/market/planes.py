"""Candles of many contracts as planes, and how bars are made of minutes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import FloatArray, IntArray

TickArray = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Planes:
    """Bars x contracts; every array has shape (bars, contracts), or (contracts,) for one bar.

    open high low close: price in ticks of the contract; 0 where there is no candle.
    volume, taker_volume: base asset. quote_volume: quote asset. trades: count.
    """

    open: TickArray
    high: TickArray
    low: TickArray
    close: TickArray
    volume: FloatArray
    quote_volume: FloatArray
    taker_volume: FloatArray
    trades: IntArray

    def __getitem__(self, key: object) -> Self:
        """Return the same part of every plane."""
        return type(self)(*(getattr(self, name)[key] for name in NAMES))

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in NAMES)

    @property
    def taker_quote_volume(self) -> FloatArray:
        share = np.divide(
            self.taker_volume, self.volume, out=np.zeros_like(self.volume), where=self.volume > 0
        )
        taken: FloatArray = share * self.quote_volume
        return taken

    def without(self, absent: NDArray[np.bool_]) -> Self:
        """Return the same with no candle where `absent`, of the planes' shape or broadcast to it."""
        return type(self)(*(np.where(absent, 0, getattr(self, name)) for name in NAMES))


NAMES = tuple(field.name for field in fields(Planes))


def stack(parts: list[Planes], axis: int = 0) -> Planes:
    """Return one after the other along `axis`: 0 in time, 1 side by side. Needs at least one."""
    if len(parts) == 1:
        return parts[0]
    return Planes(*(np.concatenate([getattr(part, name) for part in parts], axis=axis) for name in NAMES))


def bars_of(minutes: Planes, starts: NDArray[np.intp]) -> Planes:
    """Return one bar from each row in `starts` (ascending, the first 0) up to before the next.

    A bar without any candle is empty; other bars are made of the candles they have.
    """
    low = np.where(minutes.low > 0, minutes.low, np.iinfo(np.int32).max)
    lowest = np.minimum.reduceat(low, starts, axis=0)
    highest = np.maximum.reduceat(minutes.high, starts, axis=0)
    return Planes(
        open=_first_present(minutes.open, starts),
        high=highest,
        low=np.where(highest > 0, lowest, 0).astype(np.int32),
        close=_last_present(minutes.close, starts),
        volume=np.add.reduceat(minutes.volume, starts, axis=0),
        quote_volume=np.add.reduceat(minutes.quote_volume, starts, axis=0),
        taker_volume=np.add.reduceat(minutes.taker_volume, starts, axis=0),
        trades=np.add.reduceat(minutes.trades, starts, axis=0, dtype=np.int64),
    )


def _first_present(plane: TickArray, starts: NDArray[np.intp]) -> TickArray:
    first: TickArray = plane[starts]
    if not (first == 0).any():
        return first
    rows = np.arange(len(plane)).reshape(-1, *([1] * (plane.ndim - 1)))
    position = np.where(plane > 0, rows, len(plane) - 1)
    return _at(plane, np.minimum.reduceat(position, starts, axis=0), starts, last=False)


def _last_present(plane: TickArray, starts: NDArray[np.intp]) -> TickArray:
    ends = np.append(starts[1:], len(plane)) - 1
    last: TickArray = plane[ends]
    if not (last == 0).any():
        return last
    rows = np.arange(len(plane)).reshape(-1, *([1] * (plane.ndim - 1)))
    position = np.where(plane > 0, rows, 0)
    return _at(plane, np.maximum.reduceat(position, starts, axis=0), starts, last=True)


def _at(plane: TickArray, position: NDArray[np.intp], starts: NDArray[np.intp], *, last: bool) -> TickArray:
    """Return the values at `position`; 0 for positions outside of their bar, which has no candle."""
    found = np.take_along_axis(plane, position, axis=0)
    edge = starts if last else np.append(starts[1:], len(plane)) - 1
    edge = edge.reshape(-1, *([1] * (plane.ndim - 1)))
    outside = position < edge if last else position > edge
    inside: TickArray = np.where(outside, 0, found).astype(np.int32)
    return inside


def merged(earlier: Planes, later: Planes) -> Planes:
    """Return one bar of two that follow each other; shapes (contracts,), either may lack candles."""
    both = stack([earlier[None], later[None]])
    return bars_of(both, np.zeros(1, dtype=np.intp))[0]
