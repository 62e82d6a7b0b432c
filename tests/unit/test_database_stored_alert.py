"""What may be stored as an alert."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.database.stored_alert import StoredAlert, parse_alert
from app.errors import BadInput
from tests.support.database import alert

GOOD = dict(alert(1).alert)


def test_an_alert_keeps_its_fields_and_gets_its_offset_as_seq() -> None:
    assert parse_alert(orjson.dumps(GOOD), 7) == StoredAlert(7, GOOD)


@pytest.mark.parametrize(
    "fault",
    [
        {"id": "1234"},
        {"id": None},
        {"timestamp": "yesterday"},
        {"timestamp": "2024-01-01T00:00:00"},
        {"symbol": None},
        {"rule_type": 1},
        {"severity": []},
        {"description": "the character \x00"},
        {"metadata": {"note\x00": 1}},
        {"metadata": None},
        {"timings": [1]},
        {"price": "1"},
        {"price": True},
        {"rule_version": 1.5},
        {"rule_version": 2**31},
    ],
)
def test_an_alert_the_database_could_not_store_is_refused(fault: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as refused:
        parse_alert(orjson.dumps(GOOD | fault), 7)
    assert refused.value.input_reason == "alert_schema"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"NaN"])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        parse_alert(data, 7)
    assert refused.value.input_reason == "not_json"


def test_what_is_not_an_object_is_refused() -> None:
    with pytest.raises(BadInput, match="not an object"):
        parse_alert(b"[]", 7)


def test_an_escaped_backslash_before_u0000_is_ordinary_text() -> None:
    text = r"C:\u0000"
    assert parse_alert(orjson.dumps(GOOD | {"description": text}), 7).alert["description"] == text
