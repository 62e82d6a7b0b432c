"""Candle messages of NATS: what is understood, and what is refused for which reason."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import orjson
import pytest

from app.candles.batch import MINUTE_MS, CandleBatch
from app.candles.validity import EXPLANATIONS, Reason
from app.wire.nats.candles import Parsed, parse
from app.wire.nats.rejected import Rejected
from tests.support.candle_messages import MAX_BYTES, MINUTE_START_MS, NOW_MS, candle, message


def parsed(*messages: bytes) -> Parsed:
    return parse(messages, ingest_ts_ms=NOW_MS, max_bytes=MAX_BYTES, exchange="binance")


def accepted(*messages: bytes) -> CandleBatch:
    found = parsed(*messages)
    assert found.rejected == []
    assert found.batch is not None
    return found.batch


def refused(data: bytes) -> Rejected:
    """The refusal of `data`, which stands between two good candles that must not notice."""
    found = parsed(message("AAAUSDT"), data, message("ZZZUSDT", close=10.5))
    assert [one.index for one in found.rejected] == [1]
    assert found.batch is not None
    assert [found.batch.symbol_of(row) for row in range(len(found.batch))] == ["AAAUSDT", "ZZZUSDT"]
    assert found.batch.close.tolist() == [11.0, 10.5]
    assert found.rejected[0].message
    return found.rejected[0]


def test_a_closed_candle_is_read_with_all_its_fields():
    batch = accepted(message(taker_buy_volume=1.5, taker_buy_quote_volume=15.5))
    assert batch.symbols == ("BTCUSDT",)
    row = {name: getattr(batch, name).tolist() for name in ("open", "high", "low", "close", "volume")}
    assert row == {"open": [10.0], "high": [12.0], "low": [9.0], "close": [11.0], "volume": [3.0]}
    assert batch.quote_volume.tolist() == [31.5]
    assert batch.trades.tolist() == [7]
    assert batch.taker_buy_volume.tolist() == [1.5]
    assert batch.taker_buy_quote_volume.tolist() == [15.5]
    assert batch.closed.tolist() == [True]
    assert batch.event_ts_ms.tolist() == [MINUTE_START_MS + MINUTE_MS]
    assert batch.ingest_ts_ms.tolist() == [NOW_MS]
    assert batch.exchange == "binance"


@pytest.mark.parametrize(
    "open_time",
    [
        MINUTE_START_MS,
        float(MINUTE_START_MS),
        MINUTE_START_MS // 1000,
        MINUTE_START_MS / 1000,
        "2023-11-14T22:14:00Z",
        "2023-11-14T22:14:00.000Z",
        "2023-11-14T22:14:00.000000000Z",
        "2023-11-14T22:14:00+00:00",
        "2023-11-15T00:14:00+02:00",
        "2023-11-14T16:44:00-05:30",
    ],
)
def test_a_time_may_be_rfc_3339_or_epoch_seconds_or_epoch_milliseconds(open_time: Any):
    assert accepted(message(open_time=open_time)).open_time_ms.tolist() == [MINUTE_START_MS]


def test_messages_with_all_forms_of_time_may_stand_in_one_batch():
    times = [MINUTE_START_MS, MINUTE_START_MS // 1000, "2023-11-14T22:14:00Z"]
    batch = accepted(*(message(open_time=time) for time in times))
    assert batch.open_time_ms.tolist() == [MINUTE_START_MS] * 3


def test_a_candle_of_the_earlier_go_system_is_read():
    data = (
        b'{"symbol":"BTCUSDT","open_time":"2023-11-14T22:14:00Z","close_time":"2023-11-14T22:14:59.999Z",'
        b'"open":10,"high":12,"low":9,"close":11,"volume":3,"quote_volume":31.5,"number_of_trades":7}\n'
    )
    ours, theirs = accepted(message()), accepted(data)
    for name in ("open_time_ms", "open", "close", "quote_volume", "trades", "closed", "event_ts_ms"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


@pytest.mark.parametrize("quote_volume", [..., None])
def test_a_missing_quote_volume_is_estimated_and_flagged(quote_volume: Any):
    batch = accepted(message("AAAUSDT"), message("BTCUSDT", quote_volume=quote_volume))
    assert batch.quote_volume.tolist() == [31.5, pytest.approx(3.0 * (12.0 + 9.0 + 11.0) / 3)]
    assert batch.quote_estimated.tolist() == [False, True]


def test_a_zero_quote_volume_is_not_missing():
    batch = accepted(message(volume=0, quote_volume=0))
    assert batch.quote_estimated.tolist() == [False]


def test_numbers_may_be_decimal_text():
    text = {
        "open": "10.0",
        "high": "12",
        "low": "9.",
        "close": "1.1e1",
        "volume": "3.000",
        "quote_volume": "31.5",
    }
    batch = accepted(message("AAAUSDT"), message("BTCUSDT", **text, number_of_trades="7"))
    for name in ("open", "high", "low", "close", "volume", "quote_volume", "trades"):
        values = getattr(batch, name)
        assert values[0] == values[1], name


def test_missing_trades_and_taker_volumes_are_zero_and_null():
    batch = accepted(message(number_of_trades=...), message(number_of_trades=None, taker_buy_volume=None))
    assert batch.trades.tolist() == [0, 0]
    assert np.isnan(batch.taker_buy_volume).all()
    assert np.isnan(batch.taker_buy_quote_volume).all()


def test_a_forming_candle_has_its_event_time_or_the_time_of_arrival():
    given = accepted(message(closed=False, event_time=MINUTE_START_MS + 1234), message(closed=False))
    assert given.closed.tolist() == [False, False]
    assert given.event_ts_ms.tolist() == [MINUTE_START_MS + 1234, NOW_MS]


def test_a_candle_may_name_the_exchange_that_is_followed_and_no_other():
    assert len(accepted(message(exchange="binance"), message(exchange=None))) == 2
    assert refused(message(exchange="bybit")).reason is Reason.OTHER_EXCHANGE
    assert refused(message(exchange=["binance"])).reason is Reason.BAD_TYPE


def test_unknown_fields_are_ignored():
    assert len(accepted(message(vwap=[1, {"deep": [2]}], source=5))) == 1


def test_of_duplicate_keys_the_last_counts():
    data = message().replace(b'"close":11.0', b'"close":"no","close":10.25')
    assert accepted(data).close.tolist() == [10.25]


def test_rows_keep_the_order_of_arrival_and_symbols_are_listed_once():
    batch = accepted(*(message(symbol) for symbol in ("B", "A", "B", "C")))
    assert batch.symbols == ("B", "A", "C")
    assert batch.symbol_index.tolist() == [0, 1, 0, 2]


def test_no_messages_give_no_batch():
    assert parsed() == Parsed(None, [])


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


def test_an_array_gives_its_good_candles_and_refuses_each_bad_one_with_its_own_json():
    bad = message("bad symbol")
    found = parse(
        [b"[%b,%b,%b,7]" % (message(), bad, message("ETHUSDT")), message("XRPUSDT")],
        ingest_ts_ms=NOW_MS, max_bytes=MAX_BYTES, exchange="binance",
    )  # fmt: skip
    assert found.batch is not None
    assert [found.batch.symbol_of(row) for row in range(3)] == ["BTCUSDT", "ETHUSDT", "XRPUSDT"]
    (one,) = found.rejected
    assert (one.index, one.counts) == (0, {Reason.BAD_SYMBOL: 1, Reason.BAD_TYPE: 1})
    assert one.original == b"[7,%b]" % bad
    assert all(told in one.message for told in ("2 candles are rejected", "bad_symbol 1", "'bad symbol'"))


def test_the_only_bad_candle_of_an_array_stands_alone_in_its_refusal():
    found = parsed(b"[%b,%b]" % (message(), message("ETHUSDT", close=-1)))
    (one,) = found.rejected
    assert (one.reason, one.count) == (Reason.PRICE_NOT_POSITIVE, 1)
    assert one.original == message("ETHUSDT", close=-1)
    assert one.message == EXPLANATIONS[Reason.PRICE_NOT_POSITIVE]


HOSTILE = {
    "numbers": b"[" + b"1," * 524_000 + b"1]",
    "empty_objects": b"[" + b"{}," * 349_000 + b"{}]",
    "bad_values": b"[" + b",".join([message(open=[])] * 3_000) + b"]",
    "invalid": b"[" + b",".join([message(close=-1)] * 3_000) + b"]",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_refusing_costs_what_the_message_costs_however_many_bad_candles_it_holds(data: bytes):
    good = message("ETHUSDT")
    tracemalloc.start()
    try:
        found = parse([data, good], ingest_ts_ms=NOW_MS, max_bytes=2**20, exchange="binance")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.batch is not None
    assert [found.batch.symbol_of(row) for row in range(len(found.batch))] == ["ETHUSDT"]
    (one,) = found.rejected
    assert one.count == len(orjson.loads(data))
    assert len(one.faults) == len(one.elements) == 10
    assert one.original is None
    assert len(one.message) < 2_000
    assert peak_bytes < 40 * len(data)


@pytest.mark.parametrize("name", ["symbol", "unknown"])
def test_deep_nesting_in_a_bad_candle_of_an_array_refuses_it_and_spares_the_others(name: str):
    bad = message(high=1, **{name: "DEEP"}).replace(b'"DEEP"', b"[" * 900 + b"]" * 900)
    found = parse(
        [b"[%b,%b]" % (bad, message("ETHUSDT"))],
        ingest_ts_ms=NOW_MS, max_bytes=MAX_BYTES, exchange="binance",
    )  # fmt: skip
    assert found.batch is not None
    assert found.batch.symbols[found.batch.symbol_index[0]] == "ETHUSDT"
    assert [(one.index, one.original) for one in found.rejected] == [(0, None)]


def test_a_candle_that_does_not_say_whether_it_is_closed_is_what_its_subject_says():
    messages = [
        message("AUSDT"),
        message("BUSDT"),
        message("CUSDT", closed=True),
        b"[%b,%b]" % (message("DUSDT"), message("EUSDT", closed=True)),
        message("FUSDT", closed=False),
        message("GUSDT", closed=None),
    ]
    found = parse(messages, ingest_ts_ms=NOW_MS, max_bytes=MAX_BYTES, exchange="binance", live={1, 2, 3, 5})
    assert found.batch is not None
    closed = {found.batch.symbol_of(row): found.batch.closed[row] for row in range(len(found.batch))}
    assert closed == {
        "AUSDT": True, "BUSDT": False, "CUSDT": True, "DUSDT": False, "EUSDT": True, "FUSDT": False,
    }  # fmt: skip
    assert [(one.index, one.reason) for one in found.rejected] == [(5, Reason.BAD_TYPE)]


def test_an_array_without_a_candle_is_refused():
    assert refused(b"[]").reason == Reason.BAD_TYPE


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


@pytest.mark.parametrize("symbol", ["1000PEPEUSDT", "BTCUSDT_240329", "BTC-PERP", "A", "A" * 32, "БТК"])
def test_symbols_of_futures_are_accepted(symbol: str):
    assert accepted(message(symbol)).symbols == (symbol,)


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


def test_a_minute_without_trades_is_a_candle():
    flat = {
        "open": 10,
        "high": 10,
        "low": 10,
        "close": 10,
        "volume": 0,
        "quote_volume": 0,
        "number_of_trades": 0,
    }
    assert len(accepted(message(**flat))) == 1


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
