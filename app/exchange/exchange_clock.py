"""The exchange's time, as far as it is known here."""

from __future__ import annotations


class ExchangeClock:
    """The latest time the exchange has told, in events or when asked; it never goes back."""

    def __init__(self) -> None:
        self._now_ms = 0

    def observe(self, event_ts_ms: int) -> None:
        self._now_ms = max(self._now_ms, event_ts_ms)

    def now_ms(self) -> int:
        """UTC ms; 0 before the first observation."""
        return self._now_ms
