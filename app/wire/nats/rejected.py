"""Rejected candles, by message: how many for each reason, and the first of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import orjson

from app.candles.validity import Reason
from app.wire.nats.candle_columns import Candle

FAULTS_TOLD = 10
"""Faults of one message that are told; the others are only counted."""


@dataclass(slots=True)
class Rejected:
    """The rejected part of a message: all of it, or some candles of an array.

    index: position of the message in the input. counts: how many candles for each reason, in the order in which
    the reasons first occur. faults: the errors of the first candles. elements: the JSON of these candles, if the
    message is an array, whose other candles may be valid; else empty. There is one object for each message, however
    many of its candles are invalid.
    """

    index: int
    counts: Counter[Reason] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    elements: list[bytes] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.counts.total()

    @property
    def reason(self) -> Reason:
        """The most frequent reason."""
        return self.counts.most_common(1)[0][0]

    @property
    def message(self) -> str:
        if self.count == 1:
            return self.faults[0]
        counts = ", ".join(f"{reason} {count:,}" for reason, count in self.counts.most_common())
        return f"{self.count:,} candles are rejected ({counts}); the first: {'; '.join(self.faults)}"

    @property
    def original(self) -> bytes | None:
        """Return the rejected candles as JSON, if there are few; None: the whole message must stand for them."""
        if not self.elements or len(self.elements) < self.count:
            return None
        return self.elements[0] if self.count == 1 else b"[%b]" % b",".join(self.elements)


class Refusals:
    """Rejected candles, by message."""

    def __init__(self) -> None:
        self._of: dict[int, Rejected] = {}

    def add(self, index: int, reason: Reason, fault: str) -> None:
        """Reject a message as a whole."""
        self._note(index, reason, fault)

    def add_candle(self, candle: Candle, reason: Reason, fault: str) -> None:
        found = self._note(candle.position, reason, fault)
        if candle.in_array and len(found.faults) == found.count:
            with suppress(orjson.JSONEncodeError):  # orjson reads deeper nesting than it writes
                found.elements.append(orjson.dumps(candle.document))

    def count(self, index: int, more: Mapping[Reason, int]) -> None:
        """Count more candles of a message of which enough faults are told."""
        if any(more.values()):
            self._of[index].counts.update({reason: count for reason, count in more.items() if count})

    def _note(self, index: int, reason: Reason, fault: str) -> Rejected:
        found = self._of.get(index)
        if found is None:
            found = self._of[index] = Rejected(index)
        found.counts[reason] += 1
        if len(found.faults) < FAULTS_TOLD:
            found.faults.append(fault)
        return found

    def all(self) -> list[Rejected]:
        return [self._of[index] for index in sorted(self._of)]
