"""Candle messages of NATS that are refused, and for which reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.candles.batch import MINUTE_MS
from app.candles.validity import Reason
from tests.support.candle_messages import (
    MAX_BYTES,
    MINUTE_START_MS,
    NOW_MS,
    accepted,
    candle,
    message,
    parsed,
    refused,
)


def test_only_bad_messages_give_no_batch():
    found = parsed(b"no", b"null")
    assert found.batch is None
    assert [one.reason for one in found.rejected] == [Reason.NOT_JSON, Reason.BAD_TYPE]


NOT_JSON = {
    "empty": b"",
    "text": b"candle!",
    "cut": message()[:-10],
    "two_documents": message() + message(),
    "not_utf_8": b'{"symbol":"\xff\xfe"}',
    "lone_surrogate": b'{"symbol":"\\ud800"}',
    "nan": message().replace(b"11.0", b"NaN"),
    "infinity": message().replace(b"11.0", b"-Infinity"),
    "1e400": message().replace(b"11.0", b"1e400"),
    "endless_nesting": b"[" * 50_000,
    "nul": b"\x00" * 20,
}


@pytest.mark.parametrize("data", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_json_is_refused(data: bytes):
    assert refused(data).reason == Reason.NOT_JSON


@pytest.mark.parametrize("data", [b"null", b"true", b"5", b'"BTCUSDT"', b"1e300"])
def test_json_that_is_no_object_is_refused(data: bytes):
    found = refused(data)
    assert found.reason == Reason.BAD_TYPE
    assert "not a JSON object" in found.message


@pytest.mark.parametrize("name", ["symbol", "open_time", "open", "high", "low", "close", "volume"])
def test_a_missing_field_is_named(name: str):
    found = refused(message(**{name: ...}))
    assert found.reason == Reason.MISSING_FIELD
    assert found.message == f"missing: {name}"


def test_an_empty_object_misses_everything():
    assert refused(b"{}").reason == Reason.MISSING_FIELD


WRONG_TYPES = {
    "list": [1.0],
    "empty": [],
    "object": {"value": 1.0},
    "flag": True,
    "word": "ten",
    "pair": [1.0, 2.0],
}


@pytest.mark.parametrize(
    "name", ["open", "high", "low", "close", "volume", "quote_volume", "number_of_trades"]
)
@pytest.mark.parametrize("value", WRONG_TYPES.values(), ids=WRONG_TYPES.keys())
def test_a_number_of_another_type_is_refused(name: str, value: Any):
    assert refused(message(**{name: value})).reason == Reason.BAD_TYPE


@pytest.mark.parametrize(
    "value", ["", " ", "1_000", " 1.5", "1.5\n", "0x10", "1,5", "１２", "1e", ".", "--1"]
)
def test_text_that_is_not_decimal_is_refused(value: str):
    assert refused(message(close=value)).reason == Reason.BAD_TYPE


def test_lists_of_different_lengths_as_numbers_are_refused_each():
    found = parsed(message(open=[1.0]), message(open=[1.0, 2.0]), message(), message(open=[[]]))
    assert [one.reason for one in found.rejected] == [Reason.BAD_TYPE] * 3
    assert found.batch is not None
    assert found.batch.open.shape == (1,)


@pytest.mark.parametrize("closed", [None, 0, 1, "true", [], {}])
def test_closed_must_be_true_or_false(closed: Any):
    assert refused(message(closed=closed)).reason == Reason.BAD_TYPE


@pytest.mark.parametrize("symbol", [5, None, True, ["BTCUSDT"], {"s": "BTCUSDT"}, 1.5])
def test_a_symbol_that_is_not_text_is_refused(symbol: Any):
    assert refused(message(symbol)).reason == Reason.BAD_TYPE


@pytest.mark.parametrize(
    "symbol",
    [
        "",
        "btcusdt",
        "BTC USDT",
        "BTC*",
        "BTC>",
        "BTCUSDT\n",
        "БТК.П",
        "BTC.P",
        "BTC/USDT",
        "-BTC",
        ".BTC",
        "A" * 33,
        "BTC\x00",
    ],
)
def test_a_symbol_with_unknown_characters_is_refused(symbol: str):
    assert refused(message(symbol)).reason == Reason.BAD_SYMBOL


BAD_TIMES = {
    "word": "yesterday",
    "without_offset": "2023-11-14T22:14:00",
    "date": "2023-11-14",
    "impossible": "2023-02-30T00:00:00Z",
    "null": None,
    "flag": True,
    "list": [MINUTE_START_MS],
    "object": {"ms": MINUTE_START_MS},
    "huge_integer": 10**18,
    "beyond_64_bits": 2**64 - 1,
    "huge_float": 1e300,
    "before_1970": -60_000,
    "zero": 0,
    "year_one": "0001-01-01T00:00:00+23:59",
}


@pytest.mark.parametrize("open_time", BAD_TIMES.values(), ids=BAD_TIMES.keys())
def test_what_is_no_time_is_refused(open_time: Any):
    assert refused(message(open_time=open_time)).reason == Reason.BAD_TIME


def test_an_integer_beyond_all_bounds_is_refused():
    data = message().replace(b"1700000040000", b"9" * 400)
    assert refused(data).reason in (Reason.NOT_JSON, Reason.BAD_TIME)


@pytest.mark.parametrize("event_time", ["soon", [], {}, True, 2**63])
def test_an_event_time_that_is_no_time_is_refused(event_time: Any):
    assert refused(message(closed=False, event_time=event_time)).reason == Reason.BAD_TIME


@pytest.mark.parametrize("name", ["open", "high", "low", "close", "volume", "quote_volume"])
@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", "1e400"])
def test_text_of_a_number_that_is_not_finite_is_refused(name: str, value: str):
    assert refused(message(**{name: value})).reason == Reason.NOT_FINITE


@pytest.mark.parametrize("name", ["open", "high", "low", "close", "volume"])
def test_null_for_a_number_is_refused(name: str):
    assert refused(message(**{name: None})).reason == Reason.NOT_FINITE


@pytest.mark.parametrize("trades", ["nan", 1e300, 2**63, 10**25])
def test_trades_that_are_no_count_are_refused(trades: Any):
    assert refused(json.dumps(candle(number_of_trades=trades)).encode()).reason == Reason.NOT_FINITE


def test_half_a_trade_is_refused():
    assert refused(message(number_of_trades=1.5)).reason == Reason.BAD_TYPE


@pytest.mark.parametrize("name", ["open", "high", "low", "close"])
@pytest.mark.parametrize("value", [0, -0.0, -10.0])
def test_a_price_that_is_not_above_zero_is_refused(name: str, value: float):
    assert refused(message(**{name: value})).reason == Reason.PRICE_NOT_POSITIVE


@pytest.mark.parametrize(
    "name", ["volume", "quote_volume", "number_of_trades", "taker_buy_volume", "taker_buy_quote_volume"]
)
def test_a_negative_volume_or_count_is_refused(name: str):
    assert refused(message(**{name: -1})).reason == Reason.NEGATIVE


@pytest.mark.parametrize(
    "prices", [{"high": 10.5}, {"low": 10.5}, {"low": 12.5, "high": 9.5}, {"open": 12.5}, {"close": 8.0}]
)
def test_prices_outside_of_high_and_low_are_refused(prices: dict[str, float]):
    assert refused(message(**prices)).reason == Reason.HIGH_LOW


@pytest.mark.parametrize(
    "open_time",
    [MINUTE_START_MS + 1, MINUTE_START_MS // 1000 + 30, "2023-11-14T22:14:00.5Z", MINUTE_START_MS - 1],
)
def test_an_open_time_inside_a_minute_is_refused(open_time: Any):
    assert refused(message(open_time=open_time)).reason == Reason.MISALIGNED


def test_the_next_minute_is_accepted_and_the_one_after_it_is_refused():
    assert len(accepted(message(open_time=NOW_MS + MINUTE_MS))) == 1
    assert refused(message(open_time=NOW_MS + 2 * MINUTE_MS)).reason == Reason.FUTURE


def test_an_event_time_from_the_future_is_refused():
    soon = {"closed": False, "event_time": NOW_MS + 2 * MINUTE_MS}
    assert len(accepted(message(**soon))) == 1
    assert refused(message(**soon | {"event_time": NOW_MS + 2 * MINUTE_MS + 1})).reason == Reason.FUTURE


def test_a_message_of_ten_megabytes_is_refused_without_being_parsed():
    found = refused(b'{"symbol":"' + b"A" * 10_000_000 + b'"}')
    assert found.reason == Reason.TOO_LARGE
    assert "SCREENER_MESSAGE_MAX_BYTES" in found.message


def test_the_size_limit_itself_is_allowed():
    data = message() + b" " * (MAX_BYTES - len(message()))
    assert len(accepted(data)) == 1
    assert refused(data + b" ").reason == Reason.TOO_LARGE


@pytest.mark.parametrize("name", ["symbol", "open_time", "close", "closed", "event_time", "number_of_trades"])
def test_deep_nesting_in_a_field_is_refused(name: str):
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    data = json.dumps(candle(**{name: "DEEP"})).encode().replace(b'"DEEP"', b"[" * 900 + b"]" * 900)
    assert refused(data).reason in (Reason.BAD_TYPE, Reason.BAD_TIME)


@pytest.mark.parametrize("name", ["symbol", "open_time", "close", "closed", "event_time", "number_of_trades"])
def test_an_explanation_stays_short_whatever_the_field_holds(name: str):
    assert len(refused(message(**{name: "x" * 60_000})).message) < 300


def test_the_first_fault_in_the_order_of_reasons_names_it():
    assert refused(message(volume=-1, high=1, open_time=MINUTE_START_MS + 5)).reason == Reason.NEGATIVE
