"""Whatever arrives, each message becomes a row or a refusal, and never touches its neighbours."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.candles.batch import COLUMNS, DTYPES
from app.candles.validity import check
from app.wire.nats.candles import Parsed, parse
from tests.support.candle_messages import MINUTE_START_MS, NOW_MS, candle, message

MAX_BYTES = 2_000

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1.5", "nan", "-1", "2023-11-14T22:14:00Z", "BTCUSDT", MINUTE_START_MS, 11, 11.5])
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from([*candle(), "closed", "event_time", "taker_buy_volume", "taker_buy_quote_volume"])
nearly_candles = st.dictionaries(fields, documents, max_size=3).map(
    lambda wrong: orjson.dumps(candle() | wrong)
)
messages = (
    st.binary(max_size=40)
    | documents.map(orjson.dumps)
    | nearly_candles
    | st.sampled_from(
        [message(), message("ETHUSDT"), message(close="10.5"), b" " * (MAX_BYTES + 1), message()[:-1]]
    )
)


def parsed(data: list[bytes]) -> Parsed:
    return parse(data, ingest_ts_ms=NOW_MS, max_bytes=MAX_BYTES, exchange="binance")


def rows(found: Parsed) -> list[tuple[Any, ...]]:
    """Symbol and the bytes of all values of each row, comparable with nulls."""
    if found.batch is None:
        return []
    columns = [getattr(found.batch, name) for name in COLUMNS if name != "symbol_index"]
    return [
        (found.batch.symbol_of(row), *(column[row].tobytes() for column in columns))
        for row in range(len(found.batch))
    ]


def candles_in(data: bytes) -> int:
    """How many candles a message claims to hold: one refusal or row is owed for each."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return 1
    return max(1, len(document)) if isinstance(document, list) and len(data) <= MAX_BYTES else 1


@given(
    st.lists(
        messages | st.lists(messages, max_size=4).map(lambda some: b"[%b]" % b",".join(some)), max_size=9
    )
)
def test_every_candle_becomes_a_row_or_one_refusal(data: list[bytes]):
    found = parsed(data)
    refused = Counter({one.index: one.count for one in found.rejected})
    assert len(refused) == len(found.rejected)
    assert all(refused[index] <= candles_in(message) for index, message in enumerate(data))
    assert set(refused) <= set(range(len(data)))
    assert len(rows(found)) + refused.total() == sum(map(candles_in, data))
    if found.batch is not None:
        for name in COLUMNS:
            column = getattr(found.batch, name)
            assert column.dtype == DTYPES[name], name
            assert column.shape == (len(found.batch),), name
        assert check(found.batch, NOW_MS) == []


@given(st.lists(messages, max_size=9))
def test_a_message_gives_the_same_among_others_as_alone(data: list[bytes]):
    together = parsed(data)
    alone = [parsed([one]) for one in data]
    assert rows(together) == [row for found in alone for row in rows(found)]
    reasons = {one.index: (one.reason, one.message) for one in together.rejected}
    expected = {i: (one.reason, one.message) for i, found in enumerate(alone) for one in found.rejected}
    assert reasons == expected


@given(st.lists(st.sampled_from(["AAA", "BBB", "CCC"]), min_size=1, max_size=40), st.data())
def test_one_bad_message_anywhere_leaves_all_others_as_they_were(symbols: list[str], data: st.DataObject):
    good = [message(symbol, close=10 + at / 100) for at, symbol in enumerate(symbols)]
    at = data.draw(st.integers(0, len(good)))
    bad = data.draw(st.sampled_from([b"{", b"[]", message(open=[1.0]), message(close=-1), message("a")]))
    found = parsed([*good[:at], bad, *good[at:]])
    assert rows(found) == rows(parsed(good))
    assert [one.index for one in found.rejected] == [at]


def test_the_columns_of_symbols_and_rows_agree_when_every_second_message_is_bad():
    found = parsed([message(f"S{at}") if at % 2 else b"{}" for at in range(200)])
    assert found.batch is not None
    assert np.array_equal(found.batch.symbol_index, np.arange(100))
