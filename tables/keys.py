"""Keys of changelogs: a key that our stages did not write is skipped.

Faust's own codec raises on a foreign key, its recovery logs a warning and never ends, and the stage never gets ready.
"""

from __future__ import annotations

from typing import Any, Final

import structlog
from faust.serializers import codecs

_CODEC: Final = "screener-key"
_LATEST_S: Final = 4_102_444_800
"""The year 2100."""

log = structlog.get_logger("tables")


class _Keys(codecs.json):
    """Decode `"text"`, or with a window `["text", [begin, end]]` in seconds; None for any other key."""

    def _loads(self, s: bytes) -> Any:
        try:
            key = super()._loads(s)
        except ValueError:
            key = None
        if isinstance(key, str) or _is_windowed(key):
            return key
        log.error("snapshot_unusable", table="changelog", reason="key_unreadable", error=repr(s[:200]))
        return None


def _is_windowed(key: Any) -> bool:
    match key:
        case [str(shard), [int() | float() as begin_s, int() | float() as end_s]]:
            return shard.isdecimal() and 0 <= begin_s <= end_s <= _LATEST_S
    return False


codecs.register(_CODEC, _Keys())


def key_bytes(key: Any) -> bytes:
    """Return a key as Faust writes it into the changelog of a table that uses safe keys."""
    found: bytes = codecs.dumps(_CODEC, key)
    return found


def use_safe_keys(table: Any) -> None:
    """Have a Faust table read its changelog with this codec; before the worker starts."""
    table.key_serializer = _CODEC
