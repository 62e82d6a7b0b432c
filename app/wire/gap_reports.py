"""Reports of missing minutes to the feed: one JSON record on [gaps] per frame with gaps.

`{"gaps": [{"symbol": ..., "first_ms": ..., "last_ms": ...}]}`: open times of the first and the last missing minute,
UTC ms, inclusive. A report is sent, and confirmed by Kafka, before the collector remembers the candles that showed
the gap; after a crash it comes again, which is harmless.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import orjson

from app.candles.batch import MINUTE_MS
from app.candles.known_minutes import Gap
from app.candles.symbols import is_symbol
from app.candles.validity import is_time
from app.errors import BadInput

ReportGaps = Callable[[Sequence[Gap]], Awaitable[None]]
"""Returns when Kafka has the report."""


def encode_gaps(gaps: Sequence[Gap]) -> bytes:
    return orjson.dumps(
        {"gaps": [{"symbol": gap.symbol, "first_ms": gap.first_ms, "last_ms": gap.last_ms} for gap in gaps]}
    )


def decode_gaps(value: bytes) -> tuple[list[Gap], int]:
    """Return the gaps of a report, and the number of its entries with an invalid symbol or invalid times.
    Raises BadInput for a record that `encode_gaps` did not write."""
    try:
        reported = orjson.loads(value)["gaps"]
        gaps = [Gap(one["symbol"], int(one["first_ms"]), int(one["last_ms"])) for one in reported]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadInput("bad_type", f"not a report of gaps: {error!r}") from error
    good = [gap for gap in gaps if _is_gap(gap)]
    return good, len(gaps) - len(good)


def _is_gap(gap: Gap) -> bool:
    return (
        isinstance(gap.symbol, str)
        and is_symbol(gap.symbol)
        and is_time(gap.first_ms)
        and is_time(gap.last_ms)
        and gap.first_ms % MINUTE_MS == gap.last_ms % MINUTE_MS == 0
        and gap.first_ms <= gap.last_ms
    )
