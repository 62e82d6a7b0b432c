"""Rate limit per client and minute: counted here, shared with other replicas over Redis.

A request never waits for Redis. Counts are exchanged a few times a second, so several replicas together may exceed
the limit by the requests that arrive between two exchanges. While Redis is down every replica counts for itself: the
limit then holds for each of them, and no client is locked out.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from app.clock import Clock

WINDOW_MS: Final = 60_000
_SHARE_FROM: Final = 0.1
"""Clients below this fraction of the limit are not reported to the other replicas."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """remaining: requests left in this window. reset_s: whole seconds until the next window, at least 1."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        found = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }
        return found if self.allowed else found | {"Retry-After": str(self.reset_s)}


@dataclass(slots=True)
class _Count:
    window: int
    here: int = 0
    """Requests that this replica let pass."""
    shared: int = 0
    """Of these, the requests that the other replicas know of."""
    elsewhere: int = 0
    """Requests that the other replicas let pass, as last heard."""


class RateLimiter:
    """Counts requests in fixed windows of a clock minute. Holds at most `most_clients`, and forgets the client that has
    been silent longest first."""

    def __init__(self, per_minute: int, clock: Clock, most_clients: int = 50_000) -> None:
        """per_minute: 0 for no limit."""
        self.per_minute = per_minute
        self._clock = clock
        self._most_clients = most_clients
        self._counts: OrderedDict[str, _Count] = OrderedDict()
        self._to_share: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def window(self) -> int:
        """The number of the current window."""
        return self._clock.now_ms() // WINDOW_MS

    def take(self, client: str, cost: int = 1) -> Allowance:
        """Count a request of this client, as `cost` requests, if any of its limit is left."""
        now_ms = self._clock.now_ms()
        count = self._count(client, now_ms // WINDOW_MS)
        used = count.here + count.elsewhere
        allowed = used < self.per_minute
        if allowed:
            count.here += cost
            used += cost
            if used > self.per_minute * _SHARE_FROM:
                self._to_share[client] = None
        reset_s = -(-(WINDOW_MS - now_ms % WINDOW_MS) // 1000)
        return Allowance(allowed, self.per_minute, max(0, self.per_minute - used), reset_s)

    def _count(self, client: str, window: int) -> _Count:
        count = self._counts.get(client)
        if count is None or count.window != window:
            count = self._counts[client] = _Count(window)
            if len(self._counts) > self._most_clients:
                forgotten, _ = self._counts.popitem(last=False)
                self._to_share.pop(forgotten, None)
        self._counts.move_to_end(client)
        return count

    def to_share(self, most: int) -> dict[str, int]:
        """Return client -> requests of this window that are not shared yet, for at most `most` clients, and count them
        as shared."""
        window, found = self.window, {}
        for client in list(self._to_share)[:most]:
            del self._to_share[client]
            count = self._counts[client]
            if count.window == window and count.here > count.shared:
                found[client] = count.here - count.shared
                count.shared = count.here
        return found

    def heard(self, window: int, totals: dict[str, int]) -> None:
        """Store each client's total over all replicas, as of the last `to_share`."""
        for client, total in totals.items():
            count = self._counts.get(client)
            if count is not None and count.window == window:
                count.elsewhere = max(0, total - count.shared)
