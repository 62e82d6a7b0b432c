"""Days that were computed, as long as there is room for them."""

from __future__ import annotations

from collections import OrderedDict

from app.simexchange.market.planes import Planes

Key = tuple[int, int]
"""day (since 1970), block of contracts"""


class KeptDays:
    """Up to `most_bytes`, the ones used last; but `at_least` of them in any case."""

    def __init__(self, most_bytes: int, at_least: int) -> None:
        self._most_bytes = most_bytes
        self._at_least = at_least
        self._days: OrderedDict[Key, Planes] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._days)

    def __contains__(self, key: Key) -> bool:
        return key in self._days

    def get(self, key: Key) -> Planes | None:
        found = self._days.get(key)
        if found is not None:
            self._days.move_to_end(key)
        return found

    def put(self, key: Key, planes: Planes) -> Planes:
        self._days[key] = planes
        self._bytes += planes.nbytes
        while self._bytes > self._most_bytes and len(self._days) > self._at_least:
            _, oldest = self._days.popitem(last=False)
            self._bytes -= oldest.nbytes
        return planes
