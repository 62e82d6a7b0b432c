"""Candle messages of NATS that are understood."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.candles.batch import MINUTE_MS
from app.candles.validity import Reason
from app.wire.nats.candles import Parsed, parse
from tests.support.candle_messages import (
    MAX_BYTES,
    MINUTE_START_MS,
    NOW_MS,
    accepted,
    message,
    parsed,
    refused,
)


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


@pytest.mark.parametrize("symbol", ["1000PEPEUSDT", "BTCUSDT_240329", "BTC-PERP", "A", "A" * 32, "БТК"])
def test_symbols_of_futures_are_accepted(symbol: str):
    assert accepted(message(symbol)).symbols == (symbol,)


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
