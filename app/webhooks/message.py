"""What one request carries: one alert, the alerts of a digest, or a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

Kind = Literal["alert", "digest", "test"]
DIGEST_MAX_ALERTS: Final = 50
"""More alerts of one digest go in further messages, to stay below the size that every receiver takes."""
TEST_RULE: Final = "webhook_test"
"""The rule_type of a made-up alert."""


@dataclass(frozen=True, slots=True)
class Message:
    """`alerts`: JSON objects as published, each with its seq; in order of seq, at least one."""

    delivery_id: UUID
    kind: Kind
    alerts: tuple[Mapping[str, Any], ...]

    @property
    def id(self) -> str:
        """The same on every attempt, so that receivers can tell a repeat."""
        return f"msg_{self.delivery_id.hex}"

    @property
    def timestamp(self) -> str:
        """RFC 3339, of the latest alert."""
        return max(str(alert["timestamp"]) for alert in self.alerts)

    @property
    def published_ms(self) -> tuple[int, ...]:
        """UTC, of the alerts that say so."""
        times = (alert["timings"].get("publish_ts_ms") for alert in self.alerts)
        return tuple(time_ms for time_ms in times if isinstance(time_ms, int))
