"""Times: UTC milliseconds since 1970 as datetimes and as text, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


def utc(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def utc_ms(moment: datetime) -> int:
    """Return the UTC ms of a time; one without a zone counts as UTC."""
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def rfc3339(time_ms: int) -> str:
    """Return UTC with milliseconds, for example 2021-04-17T00:01:00.000Z."""
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    # isoformat costs a quarter of strftime
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
