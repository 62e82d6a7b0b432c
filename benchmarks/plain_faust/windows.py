"""Rolling windows of one symbol in plain Python, at the same cost for every length of window."""

from __future__ import annotations

from collections import deque

MINUTE_MS = 60_000
MINUTES = {"5m": 5, "15m": 15, "1h": 60, "8h": 480, "1d": 1440}
_LONGEST = max(MINUTES.values())


class Window:
    """The last `minutes` quote volumes with their sum, and the closes up to `minutes` back. None is a gap."""

    def __init__(self, minutes: int) -> None:
        self.closes: deque[float | None] = deque([None] * (minutes + 1), maxlen=minutes + 1)
        self.volumes: deque[float | None] = deque([None] * minutes, maxlen=minutes)
        # the window before, for the ratio to it
        self.older: deque[float | None] = deque([None] * minutes, maxlen=minutes)
        self.missing = self.older_missing = minutes
        self.sum = self.older_sum = 0.0

    def add(self, close: float | None, volume: float | None) -> None:
        self.closes.append(close)
        leaving = self.volumes[0]
        self.volumes.append(volume)
        if volume is None:
            self.missing += 1
        else:
            self.sum += volume
        if leaving is None:
            self.missing -= 1
            self.older_missing += 1
        else:
            self.sum -= leaving
            self.older_sum += leaving
        forgotten = self.older[0]
        self.older.append(leaving)
        if forgotten is None:
            self.older_missing -= 1
        else:
            self.older_sum -= forgotten

    def price_change(self) -> float | None:
        first, last = self.closes[0], self.closes[-1]
        return None if first is None or last is None else (last / first - 1) * 100

    def volume(self) -> float | None:
        return None if self.missing else self.sum

    def volume_ratio(self) -> float | None:
        if self.missing or self.older_missing or not self.older_sum:
            return None
        return self.sum / self.older_sum


class SymbolWindows:
    """All windows of one symbol. Its candles come in order of time, each minute once."""

    def __init__(self) -> None:
        self.windows = {name: Window(minutes) for name, minutes in MINUTES.items()}
        self.last_open_time: int | None = None

    def add(self, open_time: int, close: float, volume: float) -> bool:
        """Add a candle. Return False, without effect, if it is not newer than the last one."""
        if self.last_open_time is not None:
            gap = (open_time - self.last_open_time) // MINUTE_MS - 1
            if gap < 0:
                return False
            for _ in range(min(gap, 2 * _LONGEST)):
                for window in self.windows.values():
                    window.add(None, None)
        for window in self.windows.values():
            window.add(close, volume)
        self.last_open_time = open_time
        return True
