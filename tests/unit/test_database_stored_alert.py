"""What may be stored as an alert."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.errors import BadInput
from app.rules.alert import Alert
from tests.support.database import alert

GOOD = orjson.loads(alert(1).encode())


def test_an_alert_keeps_its_fields_and_gets_its_offset_as_seq() -> None:
    assert Alert.decode(orjson.dumps(GOOD), 7) == Alert.from_dict(GOOD, 7)


@pytest.mark.parametrize(
    "fault",
    [
        {"id": "1234"},
        {"id": None},
        {"timestamp": "yesterday"},
        {"timestamp": "2024-01-01T00:00:00"},
        {"timestamp": "0001-01-01T00:00:00Z"},
        {"timestamp": "0001-01-01T00:00:00+14:00"},
        {"timestamp": "9999-12-31T23:59:59Z"},
        {"symbol": "no symbol"},
        {"symbol": ""},
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
        {"backfilled": "no"},
        {"shadow": "yes"},
    ],
)
def test_an_alert_the_database_could_not_store_is_refused(fault: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as refused:
        Alert.decode(orjson.dumps(GOOD | fault), 7)
    assert refused.value.reason == "alert_schema"


def test_an_alert_nested_too_deep_to_be_shown_again_is_refused() -> None:
    deep = orjson.dumps(GOOD | {"metadata": {"note": "DEEP"}}).replace(b'"DEEP"', b"[" * 600 + b"]" * 600)
    with pytest.raises(BadInput, match="cannot be encoded"):
        Alert.decode(deep, 7)


def test_an_alert_of_a_megabyte_is_refused_unread() -> None:
    with pytest.raises(BadInput) as refused:
        Alert.decode(orjson.dumps(GOOD | {"description": "x" * 1_000_000}), 7)
    assert refused.value.reason == "too_large"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"NaN"])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        Alert.decode(data, 7)
    assert refused.value.reason == "not_json"


def test_what_is_not_an_object_is_refused() -> None:
    with pytest.raises(BadInput, match="not an object"):
        Alert.decode(b"[]", 7)


def test_an_escaped_backslash_before_u0000_is_ordinary_text() -> None:
    text = r"C:\u0000"
    assert Alert.decode(orjson.dumps(GOOD | {"description": text}), 7).description == text
