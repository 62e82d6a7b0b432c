"""Query parameters, read strictly: anything unknown, repeated, or malformed is a 400 that names it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from multidict import MultiMapping

from app.sidecar.http.problems import RequestError, bad_parameter, unknown_names

MAX_LIST_ITEMS: Final = 200
RULE_TYPE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_LATEST_MS: Final = 253_402_214_400_000
"""9999-12-31 00:00 UTC: times computed from it must be representable too."""
_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
_RFC_3339: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


class Parameters:
    """The query of one request. Raises RequestError 400 on construction for a name outside `allowed`."""

    def __init__(self, query: MultiMapping[str], allowed: Collection[str]) -> None:
        unknown = [name for name in dict.fromkeys(query) if name not in allowed]
        if unknown:
            raise RequestError(400, "unknown_parameter", unknown_names("parameter", unknown, sorted(allowed)))
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
        """Return an RFC 3339 time as UTC milliseconds since 1970, rounded up; at most the start of the last day of
        9999."""
        text = self.text(name)
        if text is None:
            return None
        requirement = "must be a time, for example 2024-02-27T14:05:00Z (in a URL write + as %2B)"
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

    def flag(self, name: str) -> bool | None:
        """Return None if the parameter is absent."""
        text = self.choice(name, ("true", "false"))
        return None if text is None else text == "true"

    def choices(self, name: str, allowed: Collection[str]) -> tuple[str, ...]:
        items = self._items(name)
        if not set(items) <= set(allowed):
            raise bad_parameter(name, f"each must be one of {', '.join(allowed)}")
        return items

    def word(self, name: str, fits: Callable[[str], object], what: str) -> str | None:
        text = self.text(name)
        if text is not None and not fits(text):
            raise bad_parameter(name, f"must be {what}")
        return text

    def words(self, name: str, fits: Callable[[str], object], what: str) -> tuple[str, ...]:
        """Return the distinct items of a list, each of which `fits`; empty when the parameter is absent."""
        items = self._items(name)
        if not all(fits(item) for item in items):
            raise bad_parameter(name, f"each must be {what}")
        return items

    def _items(self, name: str) -> tuple[str, ...]:
        """Return the distinct items: separated by commas, in repeated parameters, or both."""
        values = self._query.getall(name, [])
        items = [item for value in values for item in value.split(",")]
        if "" in items:
            raise bad_parameter(name, "contains an empty item")
        if len(items) > MAX_LIST_ITEMS:
            raise bad_parameter(name, f"contains more than {MAX_LIST_ITEMS} items")
        return tuple(dict.fromkeys(items))


def alert_id(parameters: Parameters) -> str | None:
    """Return the parameter `since_id`, in the form in which alerts carry it."""
    text = parameters.text("since_id")
    try:
        return None if text is None else str(UUID(text))
    except ValueError:
        raise bad_parameter("since_id", "must be the id of an alert") from None
