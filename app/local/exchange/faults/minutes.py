"""Faults of single minutes: not sent, late, twice, out of order, wrong at first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from app.local.exchange.faults.kinds import Correction, Duplicate, Late, OutOfOrder, WithheldMinutes
from app.local.exchange.market.planes import Planes

MinuteFault = WithheldMinutes | Late | Duplicate | OutOfOrder | Correction
Mask = NDArray[np.bool_]
_WRONG_VOLUME: Final = 0.75


@dataclass(frozen=True, slots=True)
class ClosedMinute:
    """The stream messages at the end of `minute`.

    bars: interval -> (minute its bar opens at, the bar, whether the bar is over too); shape (contracts,).
    """

    minute: int
    event_ms: int
    bars: dict[str, tuple[int, Planes, bool]]

    def wrong(self) -> ClosedMinute:
        """Return the same with a close in the middle of its range, and a part of the volume."""
        return replace(
            self, bars={name: (bar, _spoilt(planes), over) for name, (bar, planes, over) in self.bars.items()}
        )


@dataclass(slots=True)
class Running:
    """A fault under way: `which` contracts, shape (contracts,), in minutes from `first` up to before `end`."""

    fault: MinuteFault
    which: Mask
    first: int
    end: int


class Send(Protocol):
    """Publishes the candles of a minute for the contracts in `which`, closed or as if they still formed."""

    def __call__(self, minute: ClosedMinute, which: Mask, *, closed: bool = True) -> None: ...


@dataclass(slots=True)
class _Held:
    """Candles that wait until `rounds` more rounds of forming candles are sent."""

    minute: ClosedMinute
    which: Mask
    rounds: int


class MinuteFaults:
    """The active faults of minutes."""

    def __init__(self, contracts: int, send: Send, count: Callable[[str, int], None]) -> None:
        """contracts: number of contracts of the exchange. count: takes the kind of a fault and the number of candles
        that it has hit."""
        self._none = np.zeros(contracts, dtype=np.bool_)
        self._send = send
        self._count = count
        self.running: list[Running] = []
        self._held: list[_Held] = []
        self._waiting: set[asyncio.TimerHandle] = set()

    def silent(self, minute: int) -> Mask:
        """Return the contracts without messages in `minute`."""
        return self._befallen("gap", minute)

    def after_round(self) -> None:
        """Send candles that were held back long enough, and then the same candles as if they still formed."""
        for held in self._held:
            held.rounds -= 1
            if held.rounds <= 0:
                self._send(held.minute, held.which)
                self._send(held.minute, held.which, closed=False)
        self._held = [held for held in self._held if held.rounds > 0]

    def on_close(self, closed: ClosedMinute, rounds: int) -> None:
        """Send the candles of a minute that is over, with their faults.

        rounds: number of rounds of forming candles until every contract has had its turn.
        """
        left = ~self._none
        for running in self.running:
            if running.first <= closed.minute < running.end:
                left = self._apply(running, closed, left, rounds)
        self._send(closed, left)
        self.running = [running for running in self.running if closed.minute + 1 < running.end]

    def cancel(self) -> None:
        for handle in self._waiting:
            handle.cancel()
        self._waiting.clear()

    def _befallen(self, kind: str, minute: int) -> Mask:
        which = self._none
        for running in self.running:
            if running.fault.kind == kind and running.first <= minute < running.end:
                which = which | running.which
        return which

    def _apply(self, running: Running, closed: ClosedMinute, left: Mask, rounds: int) -> Mask:
        """Apply the fault to the candles in `left`, and return the candles still to be sent."""
        fault, which = running.fault, running.which & left
        self._count(fault.kind, int(np.count_nonzero(which)))
        match fault:
            case WithheldMinutes():
                pass
            case Late():
                self._later(fault.delay_s, closed, which)
            case Duplicate():
                # the first of the two; the second goes with all the others
                self._send(closed, which)
                return left
            case OutOfOrder():
                self._held.append(_Held(closed, which, rounds))
            case Correction():
                self._send(closed.wrong(), which)
                self._later(fault.after_s, closed, which)
        return left & ~which

    def _later(self, delay_s: float, closed: ClosedMinute, which: Mask) -> None:
        def send() -> None:
            self._waiting.discard(handle)
            self._send(closed, which)

        handle = asyncio.get_running_loop().call_later(delay_s, send)
        self._waiting.add(handle)


def _spoilt(bars: Planes) -> Planes:
    middle = ((bars.high.astype(np.int64) + bars.low) // 2).astype(np.int32)
    return replace(
        bars,
        close=np.where(middle == bars.close, bars.low, middle).astype(np.int32),
        volume=bars.volume * _WRONG_VOLUME,
        quote_volume=bars.quote_volume * _WRONG_VOLUME,
        taker_volume=bars.taker_volume * _WRONG_VOLUME,
    )
