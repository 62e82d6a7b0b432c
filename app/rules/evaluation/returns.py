"""The memory of corr() and beta(): the returns of all symbols over the longest duration that a book asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.market.comovement import RETURN_COLUMN, Comovement, MinuteReturns
from app.market.metrics import MetricsBatch
from app.rules.evaluation.program import Cells
from app.rules.language.tree import WithReference

_MINUTES, _RETURNS = "return_minutes", "returns"


class ReturnsMemory:
    """The returns that corr() and beta() in a book need; without such functions it keeps nothing."""

    def __init__(self) -> None:
        self._calls: Mapping[int, WithReference] = {}
        self.returns: MinuteReturns | None = None
        """None without such functions."""

    @property
    def symbols(self) -> tuple[str, ...]:
        return () if self.returns is None else self.returns.symbols

    @property
    def known_minutes(self) -> int:
        return 0 if self.returns is None else self.returns.known_minutes

    def complete(self, other: ReturnsMemory) -> None:
        """Take what is unknown here from another memory of the same calls."""
        if self.returns is not None and other.returns is not None:
            self.returns.complete(other.returns)

    def swap(self, calls: Mapping[int, WithReference]) -> None:
        """Evaluate these calls from now on, by the cell of the result."""
        self._calls = calls
        minutes = max((call.minutes for call in calls.values()), default=0)
        if not minutes:
            self.returns = None
        elif self.returns is None:
            self.returns = MinuteReturns(minutes)
        else:
            self.returns = self.returns.keep(minutes)

    def fill(self, cells: Cells, batch: MetricsBatch) -> None:
        """Take the returns of a batch and fill the cells. The batch must be one minute, with one row per symbol; for
        several minutes the cells are null."""
        if self.returns is None:
            return
        minutes = np.unique(batch.open_time_ms).tolist()
        returns = batch.values[:, batch.columns.index(RETURN_COLUMN)]
        names = [batch.symbols[index] for index in batch.symbol_index.tolist()]
        for minute in minutes:
            rows = np.flatnonzero(batch.open_time_ms == minute).tolist()
            self.returns.take(minute, [names[row] for row in rows], returns[rows])
        if len(minutes) != 1:
            for cell in self._calls:
                cells[cell] = np.full(len(batch), np.nan)
            return
        [minute_ms] = minutes
        known: dict[tuple[str, int], Comovement] = {}
        for cell, call in self._calls.items():
            window = call.reference, call.minutes
            if window not in known:
                known[window] = self.returns.comovement(call.reference, minute_ms, call.minutes, names)
            cells[cell] = known[window].correlation if call.name == "corr" else known[window].beta

    def forget(self, symbols: Collection[str]) -> None:
        if self.returns is not None:
            self.returns.forget(symbols)

    def pack(self) -> dict[str, NDArray[Any]]:
        if self.returns is None:
            return {}
        minutes, returns = self.returns.pack()
        return {_MINUTES: minutes, _RETURNS: returns}

    def restore(self, symbols: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore the results of `symbols` and `pack`, as far as they are used; minutes that they lack stay as they
        are. Raises ValueError for other arrays."""
        if self.returns is not None and _RETURNS in arrays:
            known, minutes = self.returns, self.returns.minutes
            self.returns = MinuteReturns.restore(symbols, arrays[_MINUTES], arrays[_RETURNS]).keep(minutes)
            self.returns.complete(known)
