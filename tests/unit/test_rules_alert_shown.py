"""The JSON of a record for clients: the short way says what the way through `Alert` says."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadInput
from app.rules import alert_shown
from app.rules.alert import Alert
from app.rules.alert_shown import shown

OWN: dict[str, Any] = {
    "id": "84ffc41b-88c3-5491-b094-a9c27538de88",
    "symbol": "BTCUSDT",
    "rule_type": "rising",
    "rule_version": 3,
    "severity": "high",
    "description": "It rises",
    "timestamp": "2021-04-17T00:01:00.000Z",
    "price": 10.5,
    "metadata": {
        "rsi": None,
        "vcp": 0.1,
        "seen": {"minute": "m", "expression": "x > 1", "values": {"x": 2.0}},
    },
    "timings": {"exchange_ts_ms": 1, "ingest_ts_ms": 2, "evaluate_ts_ms": 3, "publish_ts_ms": 4},
    "backfilled": False,
}
VALUES = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        3,
        -1,
        2**31,
        1.5,
        "",
        "BTCUSDT",
        "x\x00",
        "\\u0000",
        [],
        {},
        {"ingest_ts_ms": 1.5},
    ]
)
CHANGES = st.dictionaries(st.sampled_from([*OWN, "seq", "shadow", "venue"]), VALUES, max_size=2)


def longer_way(data: bytes) -> bytes | tuple[str, str]:
    try:
        return orjson.dumps(Alert.decode(data, 7).delivered(9).as_dict())
    except BadInput as error:
        return error.reason, str(error)


def short_way(data: bytes) -> bytes | tuple[str, str]:
    try:
        document, text = shown(data, 7, 9)
    except BadInput as error:
        return error.reason, str(error)
    assert orjson.loads(text) == document
    return text


def without_the_longer_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Alert:
        raise AssertionError("the longer way")

    monkeypatch.setattr(alert_shown.Alert, "decode", refuse)


@given(CHANGES, CHANGES, st.sets(st.sampled_from([*OWN]), max_size=1), st.randoms())
def test_a_record_is_shown_as_the_alert_that_it_holds(changes, timings, missing, random):
    document = OWN | changes
    if isinstance(document["timings"], dict):
        document["timings"] = document["timings"] | timings
    names = [name for name in document if name not in missing]
    if random.random() < 0.3:
        random.shuffle(names)
    data = orjson.dumps({name: document[name] for name in names})
    assert short_way(data) == longer_way(data)


@pytest.mark.parametrize("depth", range(245, 260))
def test_metadata_as_deep_as_json_is_written_is_shown_and_deeper_is_refused(depth):
    data = orjson.dumps(OWN | {"metadata": {"note": "DEEP"}}).replace(b'"DEEP"', b"[" * depth + b"]" * depth)
    found: list[Any] = []
    for way in (short_way, longer_way):
        try:
            found.append(way(data))
        except orjson.JSONEncodeError as error:
            found.append(str(error))
    assert found[0] == found[1]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"7", orjson.dumps(OWN | {"description": "x" * 70_000})])
def test_what_is_no_alert_is_refused_as_the_alert_is(data):
    assert short_way(data) == longer_way(data)


def test_an_alert_that_this_version_publishes_goes_the_short_way(monkeypatch):
    alert = Alert.decode(orjson.dumps(OWN), 1)
    data = alert.published(4, backfilled=False)
    expected = longer_way(data)
    without_the_longer_way(monkeypatch)
    assert short_way(data) == expected
