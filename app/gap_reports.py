"""What the collector misses, told to the feed: one JSON record on [gaps] per frame in which gaps were found.

`{"gaps": [{"symbol": ..., "first_ms": ..., "last_ms": ...}]}`: open times of the first and the last missing minute,
UTC ms, inclusive. A report is sent, and confirmed by Kafka, before the collector remembers the candles that showed
the gap; after a crash it comes again, which is harmless.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import orjson

from app.candles.batch import MINUTE_MS
from app.candles.known_minutes import Gap
from app.errors import BadInput

ReportGaps = Callable[[Sequence[Gap]], Awaitable[None]]
"""Returns when Kafka has the report."""


def encode_gaps(gaps: Sequence[Gap]) -> bytes:
    return orjson.dumps(
        {"gaps": [{"symbol": gap.symbol, "first_ms": gap.first_ms, "last_ms": gap.last_ms} for gap in gaps]}
    )


def decode_gaps(value: bytes) -> list[Gap]:
    """Raises BadInput for a record that `encode_gaps` did not write."""
    try:
        gaps = [
            Gap(str(one["symbol"]), int(one["first_ms"]), int(one["last_ms"]))
            for one in orjson.loads(value)["gaps"]
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise BadInput("bad_type", f"not a report of gaps: {error!r}") from error
    for gap in gaps:
        if gap.first_ms % MINUTE_MS or gap.last_ms % MINUTE_MS or not 0 < gap.first_ms <= gap.last_ms:
            raise BadInput("bad_time", f"a gap from {gap.first_ms} to {gap.last_ms} is none")
    return gaps
