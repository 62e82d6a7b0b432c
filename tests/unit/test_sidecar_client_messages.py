"""What clients of /ws may say, whatever they say."""

from __future__ import annotations

import json
import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sidecar.live.alert_groups import Wanted
from app.sidecar.live.client_messages import (
    CHANNELS,
    Auth,
    MessageError,
    Ping,
    SubscribeAlerts,
    SubscribeValues,
    Unsubscribe,
    parse_message,
)
from app.sidecar.live.latest_channel import WantedValues

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["type", "channel", "id", "symbols", "rules", "severities", "since", "since_id", "token", "fields"]
)
WORDS = st.sampled_from(["subscribe", "auth", "ping", "unsubscribe", *CHANNELS, "BTCUSDT"])


@given(st.text(max_size=200) | st.dictionaries(NAMES, WORDS | JSON).map(json.dumps))
def test_whatever_a_client_says_is_understood_or_refused_with_a_text_for_it(said):
    try:
        parse_message(said)
    except MessageError as error:
        assert error.code
        assert error.text
        assert error.channel in (None, *CHANNELS)


@pytest.mark.parametrize("nested", ["[" * 100_000, '{"type":' * 10_000 + "1" + "}" * 10_000])
def test_nesting_without_end_is_refused(nested):
    with pytest.raises(MessageError):
        parse_message(nested)


def test_each_message_is_understood():
    identifier = "5e5f2f6c-95a6-5b7c-8e59-4bb0a83b6a45"
    expected = {
        '{"type":"ping","id":1}': Ping(1),
        '{"type":"auth","token":"t"}': Auth(None, "t"),
        '{"type":"unsubscribe","channel":"candles","id":"u"}': Unsubscribe("u", "candles"),
        '{"type":"subscribe","channel":"alerts"}': SubscribeAlerts(None, Wanted(), None, None),
        '{"type":"subscribe","channel":"alerts","symbols":["BTCUSDT"],"rules":["a","b"],"severities":["high"],'
        f'"since":7,"since_id":"{identifier.upper()}"}}': SubscribeAlerts(
            None,
            Wanted(frozenset({"BTCUSDT"}), frozenset({"a", "b"}), frozenset({"high"})),
            7,
            identifier,
        ),
        '{"type":"subscribe","channel":"metrics","timeframes":["5m"],"fields":["close"],"interval_ms":500}': (
            SubscribeValues(
                None, "metrics", WantedValues(None, (frozenset({"5m"}), frozenset({"close"})), 500)
            )
        ),
        '{"type":"subscribe","channel":"candles","symbols":["ETHUSDT"]}': SubscribeValues(
            None, "candles", WantedValues(frozenset({"ETHUSDT"}), (frozenset(), frozenset()), 250)
        ),
    }
    assert {text: parse_message(text) for text in expected} == expected


def test_a_token_does_not_show_in_the_message():
    assert "secret" not in repr(parse_message('{"type":"auth","token":"secret"}'))


def test_what_the_documentation_shows_a_client_say_is_understood():
    document = files("app.sidecar").joinpath("WEBSOCKET.md").read_text()
    said = re.findall(r"^→ (.*)$", document, re.MULTILINE)
    assert len(said) >= 6
    for text in said:
        parse_message(text)
