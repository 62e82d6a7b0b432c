"""All rolling state of a shard as arrays whose first axis is the symbol."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.market.rings.layout import QUARTER
from app.market.rings.records import Five, Minute, Quarter, Rings, Symbol, empty_record

_GROWTH: Final = 1.25


@dataclass(frozen=True, slots=True)
class Retention:
    """How many quarters each ring holds, for evaluations up to `late_horizon_minutes` before the newest."""

    late_horizon_minutes: int

    @property
    def late_quarters(self) -> int:
        return math.ceil(self.late_horizon_minutes / QUARTER)

    @property
    def minute_quarters(self) -> int:
        """A day before the quarter of the oldest minute that may still be evaluated."""
        return 96 + self.late_quarters + 1

    @property
    def quote_quarters(self) -> int:
        """Two days, for the ratio of two daily volumes; one more, for the quarter made ready in advance."""
        return 2 * 96 + self.late_quarters + 2

    @property
    def five_rows(self) -> int:
        """Sixty bars of five minutes before the oldest that may be evaluated, in whole quarters."""
        return 60 + 3 * (self.late_quarters + 2)


class State:
    """The arrays; their first `used` columns are given out to symbols. After `grow`, `rings` are new arrays."""

    def __init__(self, retention: Retention, capacity: int = 0) -> None:
        self.retention = retention
        self.used = capacity
        quotes = retention.quote_quarters * QUARTER
        self._empty = Rings(
            symbols=empty_record(Symbol),
            minutes=np.repeat(empty_record(Minute)[np.newaxis], retention.minute_quarters * QUARTER, axis=1),
            quote=np.zeros((1, quotes)),
            known=np.zeros((1, quotes), np.uint8),
            quarters=np.repeat(empty_record(Quarter)[np.newaxis], retention.quote_quarters, axis=1),
            fives=np.repeat(empty_record(Five)[np.newaxis], retention.five_rows, axis=1),
        )
        self.rings = Rings._make(np.repeat(array, capacity, axis=0) for array in _arrays(self._empty))

    @property
    def capacity(self) -> int:
        return len(self.rings.symbols)

    def grow(self, needed: int) -> None:
        """Make room for `needed` symbols, at least a quarter more than before, so that growing stays cheap on
        average."""
        if needed <= self.capacity:
            return
        more = max(needed, math.ceil(self.capacity * _GROWTH)) - self.capacity
        self.rings = Rings._make(
            np.concatenate((array, np.repeat(empty, more, axis=0)))
            for array, empty in zip(_arrays(self.rings), _arrays(self._empty), strict=True)
        )

    def keep(self, columns: NDArray[np.intp]) -> None:
        """Hold just these symbols, in this order, without room for more."""
        self.rings = Rings._make(array[columns] for array in _arrays(self.rings))
        self.used = len(columns)

    def reset(self, column: int) -> None:
        """Reset this symbol as if it had never been seen."""
        for array, empty in zip(_arrays(self.rings), _arrays(self._empty), strict=True):
            array[column] = empty[0]

    def copy_into(self, other: State, column: int) -> None:
        """Copy this symbol over the first one of the other state."""
        for array, copy in zip(_arrays(self.rings), _arrays(other.rings), strict=True):
            copy[0] = array[column]

    def memory_bytes(self) -> int:
        return sum(array.nbytes for array in _arrays(self.rings))

    def newest(self) -> NDArray[np.int64]:
        """(capacity,) the newest closed minute of each symbol."""
        newest: NDArray[np.int64] = self.rings.symbols["newest"]
        return newest


def _arrays(rings: Rings) -> tuple[NDArray[Any], ...]:
    return tuple(rings)
