"""Reports of gaps: what is read, and what of them is left out."""

from __future__ import annotations

import orjson
import pytest

from app.candles.batch import MINUTE_MS
from app.candles.known_minutes import Gap
from app.errors import BadInput
from app.wire.gap_reports import decode_gaps, encode_gaps

MINUTE = 1_700_006_400_000
GAP = Gap("BTCUSDT", MINUTE, MINUTE + MINUTE_MS)


def test_a_report_is_read_as_it_was_written():
    assert decode_gaps(encode_gaps([GAP, GAP])) == ([GAP, GAP], 0)


@pytest.mark.parametrize(
    "fault",
    [
        {"symbol": "no symbol"}, {"symbol": 5}, {"first_ms": -(10**15)}, {"last_ms": 10**17}, {"first_ms": 60_000},
        {"last_ms": MINUTE - MINUTE_MS}, {"first_ms": MINUTE + 1},
    ],
)  # fmt: skip
def test_an_entry_that_is_no_gap_costs_only_itself(fault: dict[str, object]):
    entry = {"symbol": "BTCUSDT", "first_ms": MINUTE, "last_ms": MINUTE + MINUTE_MS}
    assert decode_gaps(orjson.dumps({"gaps": [entry | fault, entry]})) == ([GAP], 1)


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"gaps": 5}', b'{"gaps": [5]}', b'{"gaps": [{}]}'])
def test_what_is_no_report_is_refused(value: bytes):
    with pytest.raises(BadInput, match="not a report of gaps"):
        decode_gaps(value)
