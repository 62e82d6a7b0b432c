"""Memory of functions over time: tracks of minutes and bars, and states of indicators, by the text of their slot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, BoolArray, FloatArray, IntArray
from app.market.metrics import MetricsBatch
from app.market.rings.layout import LATE_HORIZON_MINUTES
from app.market.tracks.recursions import Recursion
from app.market.tracks.track import Track
from app.rules.evaluation.memory import NEVER, Positions
from app.rules.evaluation.program import Cells
from app.rules.evaluation.slots import RecursionSlot, Slot, TrackSlot, late_bars

TimeSlot = TrackSlot | RecursionSlot
_PARTS: Final = {Track: ("values", "newest"), Recursion: ("states", "bars", "newest")}


def time_slots(slots: Iterable[Slot]) -> list[TimeSlot]:
    return [slot for slot in slots if isinstance(slot, TrackSlot | RecursionSlot)]


def is_of_bars(slot: TimeSlot) -> bool:
    """Return whether the slot's memory reaches back further than the kept minutes, so that it is saved by itself."""
    return isinstance(slot, RecursionSlot) or slot.minutes > 1


class Past:
    """`settled`: (symbols,) minutes up to which values of bars are final; rows of them change nothing."""

    def __init__(self) -> None:
        self.held: dict[str, Track | Recursion] = {}
        self._settled: IntArray = np.zeros(0, np.int64)
        self._minutes: IntArray = np.zeros(0, np.int64)
        self._rows: Positions = np.zeros(0, np.intp)
        self._kept: dict[int, tuple[IntArray, BoolArray]] = {}

    def lacking(self, slots: Iterable[Slot]) -> list[TimeSlot]:
        """Return the slots that need history that is not here."""
        return [slot for slot in time_slots(slots) if not self._serves(slot)]

    def _serves(self, slot: TimeSlot) -> bool:
        held = self.held.get(slot.text)
        if isinstance(held, Track) and isinstance(slot, TrackSlot):
            return held.shape.covers(slot.shape)
        return isinstance(held, Recursion)

    def keep(self, slots: Sequence[Slot], symbols: int) -> None:
        """Hold the memory of these slots only; the memory of a new slot begins empty."""
        before, self.held = self.held, {}
        for slot in time_slots(slots):
            held = before.get(slot.text)
            if isinstance(slot, RecursionSlot):
                known = held if isinstance(held, Recursion) else None
                late = late_bars(slot.minutes)
                self.held[slot.text] = known or Recursion(slot.indicator, slot.lengths, late, symbols)
            else:
                self.held[slot.text] = _track_for(slot, held if isinstance(held, Track) else None, symbols)

    def take(self, other: Past, lacking: Iterable[TimeSlot], symbols: NDArray[np.intp]) -> None:
        """Replace the memory of these slots by that of another `Past`. symbols: positions here, by position there."""
        for slot in lacking:
            match self.held[slot.text], other.held[slot.text]:
                case (Recursion() as held, Recursion() as there):
                    held.take(there, symbols)
                case (Track() as held, Track() as there):
                    held.take(there, symbols)

    def begin(self, batch: MetricsBatch, symbols: Positions, known: int) -> None:
        """Prepare for the rows of a batch. symbols: (rows,) positions of their symbols, below `known`."""
        for held in self.held.values():
            held.grow(known)
        self._grow(known)
        self._minutes, self._rows = batch.open_time_ms // MINUTE_MS, symbols
        self._kept = {1: (self._minutes, batch.closed)}

    def fill(self, slot: TimeSlot, cells: Cells) -> None:
        """Fill the cells of a slot, whose operands are filled, and remember the closed rows' values."""
        times, kept = self._times(slot.minutes)
        rows = len(times)
        operands = [_column(cells[cell], rows) for cell in slot.operands]
        held = self.held[slot.text]
        if isinstance(slot, RecursionSlot):
            cells[slot.out] = held.follow(times, self._rows, kept, np.stack(operands))
            return
        values = held.follow(times, self._rows, kept, operands[0])
        for window, found in zip(slot.windows, values, strict=True):
            cells[window.out] = found

    def _times(self, minutes: int) -> tuple[IntArray, BoolArray]:
        """Return the number of each row's bar, and whether the row ends it."""
        if minutes not in self._kept:
            bars, place = np.divmod(self._minutes, minutes)
            ends = (place == minutes - 1) & self._kept[1][1] & (self._minutes > self._settled[self._rows])
            self._kept[minutes] = bars, ends
        return self._kept[minutes]

    def free_rows(self, batch: MetricsBatch, symbols: Positions, known: int) -> BoolArray:
        """Return the rows after the settled minutes of their symbols."""
        self._grow(known)
        free: BoolArray = batch.open_time_ms // MINUTE_MS > self._settled[symbols]
        return free

    def keep_symbols(self, symbols: list[int], known: int) -> None:
        """Hold just these of the known symbols, in this order."""
        for held in self.held.values():
            held.grow(known)
            held.keep(symbols)
        self._grow(known)
        self._settled = self._settled[symbols]

    def _grow(self, known: int) -> None:
        if known > len(self._settled):
            self._settled = np.append(self._settled, np.full(known - len(self._settled), NEVER))

    def memory_bytes(self) -> int:
        return sum(held.memory_bytes() for held in self.held.values())

    def packed_bars(self, slots: Iterable[Slot], symbols: int) -> dict[str, NDArray[Any]]:
        """Return the memory that the kept minutes cannot restore, by `text|part`."""
        return {
            f"{slot.text}|{part}": array
            for slot in time_slots(slots)
            if is_of_bars(slot)
            for part, array in self.held[slot.text].packed(symbols).items()
        }

    def unpack_bars(
        self, slots: Iterable[Slot], arrays: Mapping[str, NDArray[Any]], symbols: Positions
    ) -> list[TimeSlot]:
        """Restore the result of `packed_bars`, with the newest minute of each symbol; return the slots of bars that
        are not in it. symbols: positions of its symbols. Raises KeyError or ValueError for other arrays."""
        self._grow(int(symbols.max(initial=-1)) + 1)
        self._settled[symbols] = arrays["minute"] - LATE_HORIZON_MINUTES
        of_bars = [slot for slot in time_slots(slots) if is_of_bars(slot)]
        return [slot for slot in of_bars if not self._unpack(slot, arrays, symbols)]

    def _unpack(self, slot: TimeSlot, arrays: Mapping[str, NDArray[Any]], symbols: Positions) -> bool:
        held = self.held[slot.text]
        parts = {name: arrays.get(f"{slot.text}|{name}") for name in _PARTS[type(held)]}
        known = {name: array for name, array in parts.items() if array is not None}
        return len(known) == len(parts) and held.unpack(known, symbols)


def _track_for(slot: TrackSlot, held: Track | None, symbols: int) -> Track:
    shape = slot.shape
    if held is not None and held.shape == shape:
        held.want(slot.wanted)
        return held
    track = Track(slot.wanted, shape, symbols)
    if held is not None and held.shape.covers(shape):
        track.take(held, np.arange(held.symbols))
    return track


def _column(values: Any, rows: int) -> FloatArray:
    """Return the values of a cell by row; a constant cell is one number."""
    column = np.asarray(values, np.float64)
    return column if column.shape == (rows,) else np.broadcast_to(column, rows).copy()
