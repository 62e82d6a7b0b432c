"""The feed's last findings, for its health page: a request to the exchange would count against its limits."""

from __future__ import annotations

from typing import Final


class FeedHealth:
    def __init__(self) -> None:
        self.open_connections = 0
        self.clock_offset_s = 0.0
        """By how much the exchange's clock is ahead of this machine's."""
        self.last_fault = ""
        """The exchange's error in place of an answer; empty after an answer."""


FEED_HEALTH: Final = FeedHealth()
