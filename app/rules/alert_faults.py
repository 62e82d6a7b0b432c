"""Whether a record of [alerts] is an alert that the database can store and a reader can show again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from math import isfinite
from typing import Any, Final
from uuid import UUID

import orjson

from app.candles.symbols import is_symbol
from app.candles.validity import is_time
from app.errors import BadInput

_KINDS: Final[tuple[tuple[str, type, object, str], ...]] = (
    *((name, str, None, "text") for name in ("symbol", "rule_type", "severity", "description")),
    *((name, dict, None, "an object") for name in ("metadata", "timings")),
    *((name, bool, False, "true or false") for name in ("backfilled", "shadow")),
)
"""Field, its type, the value where it is missing, and the type in words."""
# JSON can escape the character NUL (after an even number of backslashes), jsonb cannot hold it.
_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_PLAIN_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INT32_MAX: Final = 2**31 - 1
_MAX_BYTES: Final = 65_536
"""Largest size of an alert: ours have two thousand bytes."""


def parsed(data: bytes, seq: int) -> Any:
    """Return the JSON in a record. Raises BadInput if it is none, or too large."""
    if len(data) > _MAX_BYTES:
        raise BadInput("too_large", f"alert {seq} has {len(data):,} bytes; {_MAX_BYTES:,} are allowed")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadInput("not_json", f"the alert is not JSON: {error}") from error


def storable(data: bytes, seq: int) -> dict[str, Any]:
    """Return the JSON object in a record. Raises BadInput for anything that the database could not store, or that a
    reader could not show again."""
    document = parsed(data, seq)
    fault = alert_fault(document)
    if fault is None and has_nul(data):
        fault = "it contains the character NUL"
    if fault:
        raise BadInput("alert_schema", f"alert {seq} cannot be stored: {fault}")
    checked: dict[str, Any] = document
    return checked


def has_nul(data: bytes) -> bool:
    """Return whether JSON text names the character NUL."""
    # the expression alone takes five times as long as all the rest
    return b"\\u0000" in data and _ESCAPED_NUL.search(data) is not None


def alert_fault(document: object) -> str | None:
    """Return why this is not a JSON object of a storable alert; None if it is one."""
    if not isinstance(document, dict):
        return "not an object"
    for name, kind, missing, word in _KINDS:
        if not isinstance(document.get(name, missing), kind):
            return f"{name} is not {word}"
    return value_fault(document) or _nesting_fault(document)


def value_fault(document: Mapping[str, Any]) -> str | None:
    """Return a fault in the numbers, symbol, id or time of an object whose texts, objects and flags have the right
    type."""
    version, price = document.get("rule_version"), document.get("price")
    if type(version) is not int or not 0 <= version <= _INT32_MAX:
        return "rule_version is not a whole number from 1"
    if isinstance(price, bool) or not isinstance(price, int | float) or not isfinite(price):
        return "price is not a number"
    if not is_symbol(document["symbol"]):
        return "symbol is invalid"
    return _identity_fault(document)


def _identity_fault(document: Mapping[str, Any]) -> str | None:
    identifier = document.get("id")
    # four times as fast as UUID, which takes other spellings too
    if not (isinstance(identifier, str) and _PLAIN_UUID.fullmatch(identifier)):
        try:
            UUID(document["id"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return f"id or timestamp: {error!r}"
    timestamp = document.get("timestamp")
    return _timestamp_fault(timestamp if isinstance(timestamp, str) else None)


@lru_cache(maxsize=4_096)
def _timestamp_fault(text: str | None) -> str | None:
    """Cached: the alerts of one close of the market have one timestamp."""
    try:
        moment = datetime.fromisoformat(text or "")
        time_ms = int(moment.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        return f"id or timestamp: {error!r}"
    if moment.tzinfo is None:
        return "timestamp has no time zone"
    return None if is_time(time_ms) else "timestamp is before 2010 or after 2100"


def _nesting_fault(document: Mapping[str, Any]) -> str | None:
    """Return a fault for values nested too deep: readable JSON may be too deep to be written."""
    for name in ("metadata", "timings"):
        try:
            # takes half as long as to look for a nested value
            orjson.dumps(document[name])
        except orjson.JSONEncodeError as error:
            return f"{name} cannot be encoded: {error}"
    return None
