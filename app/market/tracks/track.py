"""One value of every symbol over time, and the functions that are computed from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import BoolArray, FloatArray, IntArray
from app.market.rings.layout import LATE_HORIZON_MINUTES
from app.market.tracks.blocks import ABSENT, BLOCK_KINDS, NO_TIME, Ring
from app.market.tracks.spans import MOST_BLOCKS
from app.market.tracks.windows import BLOCKS_OF, Functions, Over, follow

_BLOCKS_IN_WINDOW: Final = 4
"""The longest window contains at least so many of the largest blocks."""
_GROWTH: Final = 1.25


@dataclass(frozen=True, slots=True)
class Shape:
    """What a track has room for. reach: how many times a function looks back. blocks: which kinds it has. late: how
    many times before the newest may still change, and be evaluated."""

    reach: int
    blocks: frozenset[int]
    late: int
    unknown: float = math.nan

    @classmethod
    def of(
        cls,
        wanted: Sequence[tuple[Over, int]],
        late: int = LATE_HORIZON_MINUTES,
        unknown: float = math.nan,
    ) -> Shape:
        """Return the shape for these functions with their lengths."""
        blocks = frozenset(kind for function, _ in wanted for kind in BLOCKS_OF[function])
        return cls(max(length for _, length in wanted), blocks, late, unknown)

    @property
    def levels(self) -> int:
        return max(0, (self.reach // _BLOCKS_IN_WINDOW).bit_length() - 1) if self.blocks else 0

    @property
    def ring(self) -> int:
        """A multiple of the largest block."""
        block = 1 << self.levels
        return (self.reach + self.late + 2 + block - 1) // block * block

    @property
    def rows(self) -> int:
        return self.ring + len(self.blocks) * self._block_rows

    @property
    def _block_rows(self) -> int:
        return sum(self.ring >> level for level in range(1, self.levels + 1))

    @property
    def firsts(self) -> IntArray:
        firsts = np.full(BLOCK_KINDS, ABSENT, np.int64)
        for at, kind in enumerate(sorted(self.blocks)):
            firsts[kind] = self.ring + at * self._block_rows
        return firsts

    def covers(self, other: Shape) -> bool:
        return self.reach >= other.reach and self.late >= other.late


class Track:
    """One value of every symbol over time. wanted: the functions to compute, with their lengths, in the order of the
    answers."""

    def __init__(self, wanted: Sequence[tuple[Over, int]], shape: Shape, symbols: int = 0) -> None:
        self.shape = shape
        self.firsts = shape.firsts
        self.cells: FloatArray = np.full((shape.rows, symbols), shape.unknown)
        self.newest: IntArray = np.full(symbols, NO_TIME, np.int64)
        self._blocks: IntArray = np.zeros((2, MOST_BLOCKS), np.int64)
        self.want(wanted)

    def want(self, wanted: Sequence[tuple[Over, int]]) -> None:
        """Compute other functions, for which the shape has room, from now on."""
        self._functions, self._spans = Functions.of(wanted, self.symbols)

    def grow(self, symbols: int) -> None:
        held = self.cells.shape[1]
        if symbols <= held:
            return
        more = max(symbols, math.ceil(held * _GROWTH)) - held
        unknown = np.full((self.shape.rows, more), self.shape.unknown)
        self.cells = np.concatenate((self.cells, unknown), axis=1)
        self.newest = np.append(self.newest, np.full(more, NO_TIME, np.int64))
        self._spans = self._spans.with_room(held + more)

    @property
    def symbols(self) -> int:
        """How many symbols there is room for."""
        return len(self.newest)

    def memory_bytes(self) -> int:
        return self.cells.nbytes + self._spans.values.nbytes

    def follow(
        self, times: IntArray, symbols: NDArray[np.intp], kept: BoolArray, values: FloatArray
    ) -> FloatArray:
        """Return the functions at every row, (functions, rows); remember the values of the kept rows.

        All arguments (rows,): the time, the symbol's position, whether it is remembered, and the value.
        """
        out = np.empty((len(self._functions.codes), len(times)))
        follow(
            self._ring(), self._functions, self._spans, times, symbols, kept,
            np.ascontiguousarray(values, np.float64), self._blocks, out,
        )  # fmt: skip
        return out

    def _ring(self) -> Ring:
        shape = self.shape
        return Ring(self.cells, self.newest, self.firsts, shape.ring, shape.levels, shape.unknown)

    def take(self, other: Track, symbols: NDArray[np.intp]) -> None:
        """Take over the values of another track; blocks are made anew. symbols: positions here of its symbols."""
        if not len(symbols):
            return
        held = other.newest[: len(symbols)]
        known = np.flatnonzero(held != NO_TIME)
        if not len(known):
            return
        self.grow(int(symbols.max()) + 1)
        newest = int(held[known].max())
        nothing, no_spans = Functions.of([], self.symbols)
        self._spans = self._spans.with_room(self.symbols)
        for time in range(max(0, newest - other.shape.ring + 1), newest + 1):
            there = known[(held[known] >= time) & (held[known] - other.shape.ring < time)]
            follow(
                self._ring(), nothing, no_spans, np.full(len(there), time), symbols[there],
                np.ones(len(there), np.bool_), other.cells[time % other.shape.ring, there],
                self._blocks, np.empty((0, len(there))),
            )  # fmt: skip

    def keep(self, symbols: Sequence[int]) -> None:
        """Hold just these symbols, in this order."""
        self.cells = np.ascontiguousarray(self.cells[:, symbols])
        self.newest = self.newest[symbols]
        self._spans = self._spans.with_room(len(self.newest))

    def packed(self, symbols: int) -> dict[str, NDArray[Any]]:
        """Return what `unpack` takes: the values, (ring, symbols), and the newest times, (symbols,)."""
        self.grow(symbols)
        return {"values": self.cells[: self.shape.ring, :symbols], "newest": self.newest[:symbols]}

    def unpack(self, parts: Mapping[str, NDArray[Any]], symbols: NDArray[np.intp]) -> bool:
        """Take over the values that a track has packed; return whether it had this shape. symbols: their positions
        here."""
        values, newest = parts["values"], parts["newest"]
        if values.shape != (self.shape.ring, len(symbols)):
            return False
        other = Track([], self.shape)
        other.cells, other.newest = values, newest
        self.take(other, symbols)
        return True
