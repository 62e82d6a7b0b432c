"""The content of one request: one alert, the alerts of a digest, or a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from app.rules.alert import Alert

Kind = Literal["alert", "digest", "test"]
DIGEST_MAX_ALERTS: Final = 50
"""More alerts of one digest go in further messages, to stay below the size that every receiver accepts."""
TEST_RULE: Final = "webhook_test"
"""The rule_type of a made-up alert."""


@dataclass(frozen=True, slots=True)
class Message:
    """`alerts`: as published, each with its seq; in order of seq, at least one."""

    delivery_id: UUID
    kind: Kind
    alerts: tuple[Alert, ...]

    @property
    def id(self) -> str:
        """The same on every attempt, so that receivers can tell a repeat."""
        return f"msg_{self.delivery_id.hex}"

    @property
    def timestamp(self) -> str:
        """RFC 3339, of the latest alert."""
        return max(alert.timestamp for alert in self.alerts)

    @property
    def published_ms(self) -> tuple[int, ...]:
        """When the alerts were published, UTC ms; without alerts that do not tell it."""
        times = (alert.timings.publish_ts_ms for alert in self.alerts)
        return tuple(time_ms for time_ms in times if time_ms is not None)
