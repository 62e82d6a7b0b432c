"""Minutes found missing that have not arrived yet, so that a filled gap is told from history that arrives late."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from app.candles.batch import MINUTE_MS, CandleBatch
from app.candles.known_minutes import Gap

TRACKED_MINUTES: Final = 200_000
"""About 12 MB. Minutes beyond are not tracked, and so never count as filled."""


class OpenGaps:
    """The missing minutes of one shard. They are lost with the process: a gap from before a restart never counts as
    filled."""

    def __init__(self, tracked_minutes: int = TRACKED_MINUTES) -> None:
        self._room = tracked_minutes
        self._missing: dict[str, set[int]] = {}

    def __len__(self) -> int:
        """Return the number of missing minutes."""
        return sum(map(len, self._missing.values()))

    def note(self, gaps: Iterable[Gap]) -> None:
        """Note newly found gaps."""
        for gap in gaps:
            if gap.minutes <= self._room:
                first = gap.first_ms // MINUTE_MS
                self._missing.setdefault(gap.symbol, set()).update(range(first, first + gap.minutes))
                self._room -= gap.minutes

    def fill(self, batch: CandleBatch) -> int:
        """Return how many missing minutes the closed candles of `batch` bring; they are missing no longer."""
        if not self._missing:
            return 0
        filled = 0
        for at in batch.closed.nonzero()[0].tolist():
            symbol = batch.symbols[batch.symbol_index[at]]
            missing = self._missing.get(symbol)
            if missing is None or (minute := int(batch.open_time_ms[at]) // MINUTE_MS) not in missing:
                continue
            missing.remove(minute)
            filled += 1
            if not missing:
                del self._missing[symbol]
        self._room += filled
        return filled
