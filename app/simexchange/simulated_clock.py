"""The time of the simulated exchange: the wall clock's, or faster, from a moment on."""

from __future__ import annotations

from app.clock import Clock


class SimulatedClock:
    """Runs `speed` times as fast as `clock` from `start_ms` on; started in the past, it never overtakes it.

    Candles from the future are not valid for those who read them, so a market that is played fast begins in
    the past and ends up at the present. start_ms: UTC ms, None for now.
    """

    def __init__(self, clock: Clock, start_ms: int | None = None, speed: float = 1.0) -> None:
        self._clock = clock
        self._speed = speed
        self._began_ms = clock.now_ms()
        self._start_ms = self._began_ms if start_ms is None else start_ms
        self._bounded = self._start_ms <= self._began_ms

    def now_ms(self) -> int:
        wall_ms = self._clock.now_ms()
        now_ms = self._start_ms + int((wall_ms - self._began_ms) * self._speed)
        return min(now_ms, wall_ms) if self._bounded else now_ms

    @property
    def speed(self) -> float:
        return self._speed
