"""The values of other minutes that a program remembers by symbol; they fill its slots, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from app.market.metrics import MetricsBatch
from app.rules.evaluation.builder import Builder
from app.rules.evaluation.memory import PreviousValues, SymbolRegister
from app.rules.evaluation.past import Past, TimeSlot
from app.rules.evaluation.program import Cells, Gather, fill_moments, fill_rows_of, run
from app.rules.evaluation.returns import ReturnsMemory
from app.rules.evaluation.slots import PreviousSlot, Slot

Failed = Callable[[Slot, Exception], None]


class SlotMemory:
    def __init__(self) -> None:
        self.symbols = SymbolRegister()
        self.previous = PreviousValues()
        self.past = Past()

    def keep(self, slots: Sequence[Slot]) -> None:
        """Keep the memory of these slots only."""
        self.previous.keep([slot.text for slot in slots if isinstance(slot, PreviousSlot)])
        self.past.keep(slots, len(self.symbols))

    def fill(
        self,
        slots: Iterable[Slot],
        batch: MetricsBatch,
        cells: Cells,
        failed: Failed,
    ) -> None:
        """Fill the cells of the slots, and remember the values of the closed rows. A slot that raises is null."""
        symbols, known = self.symbols.positions(batch), len(self.symbols)
        self.previous.grow(known)
        links = self.previous.follow(batch, symbols)
        self.past.begin(batch, symbols, known)
        for slot in slots:
            try:
                run(cells, slot.steps)
                if isinstance(slot, PreviousSlot):
                    cells[slot.out] = self.previous.exchange(slot.text, links, cells[slot.operand])
                else:
                    self.past.fill(slot, cells)
            except MemoryError:
                raise
            except Exception as error:
                for out in slot.outs:
                    cells[out] = np.full(len(batch), np.nan)
                failed(slot, error)

    def take(self, other: SlotMemory, lacking: Sequence[TimeSlot], operands: Sequence[str]) -> None:
        """Take from a memory of the same slots the time slots that are lacking here, and the operands of prev() for
        the symbols whose last minute is the same there."""
        there = list(other.symbols.position)
        positions = self.symbols.positions_of(there)
        self.previous.grow(len(self.symbols))
        self.past.take(other.past, lacking, positions)
        self.previous.take(other.previous, operands, positions)


class Reader:
    """Fills the cells of a program that is not a rule's, such as a query or an explanation, over batches in order."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._gather = Gather(builder.columns)
        self._memory = SlotMemory()
        self._memory.keep(builder.slots)
        self._returns = ReturnsMemory()
        self._returns.swap(builder.moving_with)

    def read(self, batch: MetricsBatch) -> Cells:
        """Return the cells with every value that steps are computed from. Raises any error of a slot."""
        builder = self._builder
        cells: Cells = [builder.constants.get(cell) for cell in range(builder.width)]
        self._gather.into(cells, batch.values, batch.columns)
        fill_moments(cells, builder.moments, batch)
        fill_rows_of(cells, builder.rows_of, batch)
        self._returns.fill(cells, batch)
        if builder.slots:
            with np.errstate(all="ignore"):
                self._memory.fill(builder.slots, batch, cells, _raise)
        return cells


def _raise(_: Slot, error: Exception) -> None:
    raise error
