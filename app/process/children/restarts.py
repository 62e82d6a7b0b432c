"""When a program that ended is started again, and when that is given up."""

from __future__ import annotations

from dataclasses import dataclass

from app.wire.retry import Backoff

_BACKOFF = Backoff(0.2, 10.0)
_CALM_S = 60.0
"""A program that ran for this long is restarted after the shortest wait."""
_QUICK_S = 10.0
_QUICK_ENDS = 8


@dataclass(slots=True)
class Restarts:
    """Restarts of one program. Times are of a monotonic clock, in s."""

    started_s: float
    count: int = 0
    quick_ends: int = 0
    """Consecutive ends, each within seconds of its start."""
    recent_ends: int = 0
    """Consecutive ends, each at most a minute after its start."""

    def note_end(self, now_s: float, *, excused: bool = False) -> None:
        """`excused`: it ended because another server was down, which is not its own fault."""
        quick = now_s - self.started_s < _QUICK_S
        self.quick_ends = self.quick_ends + 1 if quick and not excused else 0

    @property
    def hopeless(self) -> bool:
        return self.quick_ends >= _QUICK_ENDS

    def wait_s(self, now_s: float) -> float:
        """Return the wait before the next start: it doubles, with jitter, up to 10 s."""
        if now_s - self.started_s > _CALM_S:
            self.recent_ends = 0
        self.recent_ends += 1
        return _BACKOFF.wait_s(self.recent_ends)

    def note_start(self, now_s: float) -> None:
        self.count += 1
        self.started_s = now_s
