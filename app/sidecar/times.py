"""Times as clients see them: RFC 3339 in UTC with milliseconds, as in alerts."""

from __future__ import annotations

from app.rules.alert import rfc3339

__all__ = ["rfc3339"]
