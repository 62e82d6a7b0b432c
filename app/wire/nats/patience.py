"""The bridge's wait for more candles before it sends a frame.

Every frame costs the stages some milliseconds at any size, so frames must stay few; but the closes of a market
come within milliseconds of each other once a minute, and then every millisecond of waiting delays the alerts.
So a batch is closed quickly as long as quick ones were rare lately, and patiently otherwise. A batch with a closed
candle is closed quickly too, though forming ones come all the time, unless most batches have closed candles, as in a
replay.
"""

from __future__ import annotations

from typing import Final

QUICK_PAUSE_S: Final = 0.003
"""Messages of one burst are closer to each other than this, unless the machine is busy."""
_MOST_CREDITS: Final = 6.0
"""Most quick batches in a row: a burst that a busy machine delivers in pieces."""
_DELAYS_PER_CREDIT: Final = 5.0
_PAUSES_PER_DELAY: Final = 3.0
_CLOSES_WAIT: Final = 1 / 3
"""Longest wait of a batch for more closed candles after its first, in longest delays."""
_MOST_CLOSES: Final = 60.0
"""Most batches of closes in a row: those of a market whose closes come spread over a second."""
_DELAYS_PER_CLOSES: Final = 2.0


class Patience:
    """Decides how long each batch waits, one batch after the other. Times are seconds of any steady clock.

    max_delay_s: the longest wait of a patient batch, which ends when no message comes for a third of that. A quick one
    ends when no message comes for 3 ms, or for half of the time its messages have taken to come. With a closed candle a
    batch is quick from then on, and waits for a third of the longest delay at most.
    """

    def __init__(self, max_delay_s: float) -> None:
        self._max_delay_s = max_delay_s
        self._credits = _MOST_CREDITS
        self._closes_credits = _MOST_CLOSES
        self._counted_s: float | None = None
        self._quick = self._closes = False
        self._began_s = self._heard_s = self._ends_s = 0.0

    def begin(self, now_s: float) -> None:
        """Note the first message of a batch."""
        if self._counted_s is not None and self._max_delay_s:
            delays = (now_s - self._counted_s) / self._max_delay_s
            self._credits = min(_MOST_CREDITS, self._credits + delays / _DELAYS_PER_CREDIT)
            self._closes_credits = min(_MOST_CLOSES, self._closes_credits + delays / _DELAYS_PER_CLOSES)
        self._counted_s = now_s
        self._quick = self._credits >= 1.0
        if self._quick:
            self._credits -= 1.0
        self._closes = False
        self._began_s = self._heard_s = now_s
        self._ends_s = now_s + self._max_delay_s

    def has_close(self, now_s: float) -> None:
        """Note that the batch has a closed candle. Only the first call for a batch counts."""
        if self._closes or self._closes_credits < 1.0:
            return
        self._closes = self._quick = True
        self._closes_credits -= 1.0
        self._began_s = self._heard_s = now_s
        self._ends_s = min(self._ends_s, now_s + self._max_delay_s * _CLOSES_WAIT)

    def heard(self, now_s: float) -> None:
        """Note that more messages came."""
        self._heard_s = now_s

    @property
    def pause_s(self) -> float:
        """Return the wait before the next check: the batch ends if no message has come by then."""
        longest_s = self._max_delay_s / _PAUSES_PER_DELAY
        if not self._quick:
            return longest_s
        return min(longest_s, max(QUICK_PAUSE_S, (self._heard_s - self._began_s) / 2))

    def used_up(self, now_s: float, times: float = 1.0) -> bool:
        """Return whether the batch has waited long enough. times: how many longest delays it may wait."""
        return now_s >= self._ends_s + (times - 1.0) * self._max_delay_s
