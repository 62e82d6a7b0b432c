"""Messages of NATS with many candles, some of them bad."""

from __future__ import annotations

import tracemalloc

import orjson
import pytest

from app.candles.validity import EXPLANATIONS, Reason
from app.wire.nats.candles import parse
from tests.support.candle_messages import (
    MAX_BYTES,
    NOW_MS,
    message,
    parsed,
    refused,
)


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


def test_an_array_without_a_candle_is_refused():
    assert refused(b"[]").reason == Reason.BAD_TYPE
