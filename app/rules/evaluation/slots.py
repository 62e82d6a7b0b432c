"""The parts of a program whose values need other minutes: what they are computed from, and what they fill."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.market.rings.layout import LATE_HORIZON_MINUTES
from app.market.tracks.recursions import Moves
from app.market.tracks.track import Shape
from app.market.tracks.windows import Over, span_values
from app.rules.language.functions import Kernel


@dataclass(frozen=True, slots=True)
class ProgramStep:
    """cells[out] = kernel(cells[left][, cells[right]]); `right` is NO_STEP for kernels of one argument."""

    out: int
    kernel: Kernel
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class PreviousSlot:
    """A prev(): the cell `operand` is remembered at closed minutes, `out` gets the remembered value."""

    text: str
    operand: int
    steps: tuple[ProgramStep, ...]
    out: int

    @property
    def operands(self) -> tuple[int, ...]:
        return (self.operand,)

    @property
    def outs(self) -> tuple[int, ...]:
        return (self.out,)


@dataclass(frozen=True, slots=True)
class Window:
    """A function over the last values of a track. length: in times of the track."""

    function: Over
    length: int
    out: int


@dataclass(frozen=True, slots=True)
class TrackSlot:
    """A value that is remembered over time, by minute or by bar of `minutes`, and the windows over it.

    text: names it across books. unknown: the value of a time without one.
    """

    text: str
    operand: int
    steps: tuple[ProgramStep, ...]
    minutes: int
    unknown: float
    windows: list[Window] = field(default_factory=list)

    @property
    def operands(self) -> tuple[int, ...]:
        return (self.operand,)

    @property
    def outs(self) -> tuple[int, ...]:
        return tuple(window.out for window in self.windows)

    @property
    def wanted(self) -> list[tuple[Over, int]]:
        return [(window.function, window.length) for window in self.windows]

    @property
    def shape(self) -> Shape:
        return Shape.of(self.wanted, late_bars(self.minutes), self.unknown)

    @property
    def values(self) -> int:
        """How many values of a symbol it remembers."""
        return self.shape.rows + span_values(self.wanted)


@dataclass(frozen=True, slots=True)
class RecursionSlot:
    """An indicator that moves with every bar of `minutes`."""

    text: str
    indicator: Moves
    lengths: tuple[int, ...]
    operands: tuple[int, ...]
    steps: tuple[ProgramStep, ...]
    minutes: int
    out: int

    @property
    def outs(self) -> tuple[int, ...]:
        return (self.out,)


Slot = PreviousSlot | TrackSlot | RecursionSlot


def late_bars(minutes: int) -> int:
    """Return how many bars of so many minutes before the newest a late candle may change."""
    return math.ceil(LATE_HORIZON_MINUTES / minutes) + (minutes > 1)


def cells_behind(slots: Sequence[Slot], first: set[int]) -> set[int]:
    """Return the cells that these cells reach through slots. slots: in their order."""
    cells = set(first)
    for slot in slots:
        if any(step.left in cells or step.right in cells for step in slot.steps) or cells.intersection(
            slot.operands
        ):
            cells.update(slot.outs)
    return cells
