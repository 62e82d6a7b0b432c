"""The backlog at one place of the flow: its size, the age of its oldest item, and since when it stands still.

A role may be alive, answer, and still make no progress. So each reports its backlog, and the sidecar asks the
servers in between how far each role has come (`app/sidecar/state/backlogs.py`): a consumer that no longer polls does
not know what records it misses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from app.clock import Clock

_LOOKS_KEPT: Final = 1_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """All times UTC ms. `count`: items not handled yet.

    since_ms: when the oldest item began to wait; still_since_ms: since when items wait and none was handled; both None
    without a backlog. handled_ms: when an item was last handled, None if not seen.
    """

    count: int = 0
    since_ms: int | None = None
    still_since_ms: int | None = None
    handled_ms: int | None = None

    @classmethod
    def worst_of(cls, found: Iterable[Waiting]) -> Waiting:
        """Return the sum of the backlogs of several parts, for example partitions, and their longest wait."""
        parts = tuple(found)
        return cls(
            sum(part.count for part in parts),
            min((part.since_ms for part in parts if part.since_ms is not None), default=None),
            min((part.still_since_ms for part in parts if part.still_since_ms is not None), default=None),
            max((part.handled_ms for part in parts if part.handled_ms is not None), default=None),
        )


class Backlog:
    """The backlog of a log, from occasional looks at two offsets: how far it is written, and how far it is handled."""

    def __init__(self) -> None:
        self._written: deque[tuple[int, int]] = deque()
        """(UTC ms at which a position was first seen written, the position), as far as not handled."""
        self._end = 0
        self._handled: int | None = None
        self._handled_ms: int | None = None

    def look(self, end: int, handled: int, now_ms: int) -> Waiting:
        """Return the backlog. `end`: offset behind the last written item; `handled`: behind the last handled item."""
        if self._handled is not None and handled < self._handled:
            # the log started again
            self._written.clear()
            self._end = 0
        elif self._handled is not None and handled > self._handled:
            self._handled_ms = now_ms
        self._handled = handled
        while self._written and self._written[0][1] <= handled:
            self._written.popleft()
        if end > max(self._end, handled):
            first_seen_ms = now_ms if len(self._written) < _LOOKS_KEPT else self._written.pop()[0]
            self._written.append((first_seen_ms, end))
        self._end = end
        if not self._written:
            return Waiting(handled_ms=self._handled_ms)
        since_ms = self._written[0][0]
        return Waiting(end - handled, since_ms, max(since_ms, self._handled_ms or 0), self._handled_ms)


class OwnWork:
    """Waiting work in this process, by name, for its signs of life."""

    def __init__(self) -> None:
        self._looks: dict[str, Callable[[], Waiting]] = {}

    @contextmanager
    def shown(self, name: str, look: Callable[[], Waiting]) -> Iterator[None]:
        """Show the work under this name while the context lasts."""
        self._looks[name] = look
        try:
            yield
        finally:
            del self._looks[name]

    def found(self) -> Mapping[str, Waiting]:
        return {name: look() for name, look in self._looks.items()}


OWN_WORK: Final = OwnWork()


def look_at(position: Callable[[], tuple[int, int]], clock: Clock) -> Callable[[], Waiting]:
    """Return a look of `OwnWork` at (how far it is written, how far it is handled)."""
    backlog = Backlog()
    return lambda: backlog.look(*position(), clock.now_ms())
