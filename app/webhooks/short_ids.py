"""Ids by their beginning, for people who copy eight characters instead of thirty-six."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from app.errors import NoSuchWebhook

_PREFIX: Final = re.compile(r"[0-9a-f]{4,32}")


def bounds(given: str) -> tuple[UUID, UUID]:
    """Return the first and the last id with this beginning. Raises ValueError unless it is 4 to 32 hexadecimal digits;
    dashes are ignored."""
    digits = given.replace("-", "").lower()
    if not _PREFIX.fullmatch(digits):
        raise ValueError(f"{given[:80]!r} is not an id or its first 4 or more characters")
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


def only_one(what: str, given: str, found: Sequence[UUID]) -> UUID:
    """Return the one id found. Raises NoSuchWebhook for no or several ids."""
    if not found:
        raise NoSuchWebhook(f"no webhook {what} {given}")
    if len(found) > 1:
        few = ", ".join(map(str, found[:3]))
        raise NoSuchWebhook(f"{given} matches more than one webhook {what}: {few}; give more characters")
    return found[0]
