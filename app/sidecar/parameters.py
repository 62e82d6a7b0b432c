"""Query parameters, read exactly: anything unknown, repeated, or malformed is a 400 that names it."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from multidict import MultiMapping

from app.candles.validity import SYMBOL_PATTERN
from app.sidecar.problems import RequestError, bad_parameter

MAX_LIST_ITEMS: Final = 200
SYMBOL: Final = re.compile(SYMBOL_PATTERN)
RULE_TYPE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_LATEST_MS: Final = 253_402_214_400_000
"""9999-12-31 00:00 UTC: what is computed from a time must have a name too."""
_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
_RFC_3339: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


class Parameters:
    """The query of one request. Raises RequestError 400 on construction for a name outside `allowed`."""

    def __init__(self, query: MultiMapping[str], allowed: Collection[str]) -> None:
        for name in query:
            if name not in allowed:
                known = ", ".join(sorted(allowed)) or "none"
                raise RequestError(400, "unknown_parameter", f"a parameter is not known here; known: {known}")
        self._query = query

    def text(self, name: str) -> str | None:
        values = self._query.getall(name, [])
        if len(values) > 1:
            raise bad_parameter(name, "given more than once")
        return values[0] if values else None

    def whole_number(self, name: str, *, least: int, most: int) -> int | None:
        text = self.text(name)
        if text is None:
            return None
        if not _WHOLE_NUMBER.fullmatch(text) or not least <= int(text) <= most:
            raise bad_parameter(name, f"must be a whole number from {least} to {most}")
        return int(text)

    def time_ms(self, name: str) -> int | None:
        """An RFC 3339 time as UTC milliseconds since 1970, rounded up; the last day of 9999 is one moment."""
        text = self.text(name)
        if text is None:
            return None
        requirement = "must be a time such as 2024-02-27T14:05:00Z (in a URL write + as %2B)"
        if not _RFC_3339.fullmatch(text):
            raise bad_parameter(name, requirement)
        try:
            moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            raise bad_parameter(name, requirement) from None
        return min(_LATEST_MS, -((_EPOCH - moment) // _MILLISECOND))

    def choice(self, name: str, allowed: Collection[str]) -> str | None:
        text = self.text(name)
        if text is not None and text not in allowed:
            raise bad_parameter(name, f"must be one of {', '.join(allowed)}")
        return text

    def choices(self, name: str, allowed: Collection[str]) -> tuple[str, ...]:
        items = self._items(name)
        if not set(items) <= set(allowed):
            raise bad_parameter(name, f"each must be one of {', '.join(allowed)}")
        return items

    def word(self, name: str, pattern: re.Pattern[str], what: str) -> str | None:
        text = self.text(name)
        if text is not None and not pattern.fullmatch(text):
            raise bad_parameter(name, f"must be {what}")
        return text

    def words(self, name: str, pattern: re.Pattern[str], what: str) -> tuple[str, ...]:
        """The distinct items of a list, each matching `pattern` whole; empty when the parameter is absent."""
        items = self._items(name)
        if not all(pattern.fullmatch(item) for item in items):
            raise bad_parameter(name, f"each must be {what}")
        return items

    def _items(self, name: str) -> tuple[str, ...]:
        """Comma separated, or the parameter repeated, or both."""
        values = self._query.getall(name, [])
        items = [item for value in values for item in value.split(",")]
        if "" in items:
            raise bad_parameter(name, "holds an empty item")
        if len(items) > MAX_LIST_ITEMS:
            raise bad_parameter(name, f"holds more than {MAX_LIST_ITEMS} items")
        return tuple(dict.fromkeys(items))


def alert_id(parameters: Parameters) -> str | None:
    """The parameter `since_id`, in the form in which alerts carry it."""
    text = parameters.text("since_id")
    try:
        return None if text is None else str(UUID(text))
    except ValueError:
        raise bad_parameter("since_id", "must be the id of an alert") from None
