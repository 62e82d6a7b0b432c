"""When messages that the stream has not confirmed are sent again: after a refusal for now, or without an answer."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from app.wire.retry import Backoff

_ACK_WAIT_S: Final = 5.0
_BACKOFF: Final = Backoff(0.2, _ACK_WAIT_S)


class Resends:
    """The messages of one publisher, by their numbers. Times are of one monotonic clock."""

    def __init__(self) -> None:
        self._unanswered: deque[tuple[float, Sequence[int]]] = deque()
        """When the messages of a chunk are due without an answer, oldest first."""
        self._refusals: Counter[int] = Counter()
        self._retry_at_s: dict[int, float] = {}

    def sent(self, numbers: Sequence[int], now_s: float) -> None:
        self._unanswered.append((now_s + 2 * _ACK_WAIT_S, numbers))
        if self._retry_at_s:
            for number in numbers:
                self._retry_at_s.pop(number, None)

    def refused(self, number: int) -> int:
        """Return how often the message has been refused."""
        self._refusals[number] += 1
        return self._refusals[number]

    def retry(self, number: int, now_s: float) -> None:
        """Make a refused message due after a wait that grows with its refusals."""
        self._retry_at_s[number] = now_s + _BACKOFF.wait_s(self._refusals[number])

    def confirmed(self, number: int) -> None:
        if self._refusals:
            self._refusals.pop(number, None)
            self._retry_at_s.pop(number, None)

    def connection_lost(self) -> None:
        """Expect no answers any more: the publisher sends everything again."""
        self._unanswered.clear()

    def take_due(self, now_s: float) -> list[int]:
        """Return the messages that are due; the publisher knows which of them are confirmed meanwhile."""
        due = [number for number, retry_at_s in self._retry_at_s.items() if retry_at_s <= now_s]
        while self._unanswered and self._unanswered[0][0] <= now_s:
            _, numbers = self._unanswered.popleft()
            due += [number for number in numbers if number not in self._retry_at_s]
        return due
