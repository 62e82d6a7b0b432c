"""Candles rendered as JSON are read back as they were."""

from __future__ import annotations

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.candles.batch import COLUMNS, MINUTE_MS, CandleBatch
from app.wire.nats.candles import parse
from app.wire.nats.render import render

NOW_MS = 1_700_000_100_000

prices = st.floats(min_value=1e-9, max_value=1e9)
volumes = st.floats(min_value=0, max_value=1e15)
candles = st.tuples(
    st.integers(0, 2),
    st.integers(0, 10),
    st.lists(prices, min_size=4, max_size=4),
    st.tuples(volumes, volumes, st.integers(0, 2**40)),
    st.tuples(st.none() | volumes, st.none() | volumes),
    st.booleans(),
    st.booleans(),
    st.none() | st.integers(0, 2 * MINUTE_MS),
)


def batch_of(rows: list[tuple], exchange: str = "binance") -> CandleBatch:
    ordered = np.sort(np.array([row[2] for row in rows]), axis=1)
    low, open_, close, high = ordered.T
    volume, quote_volume, trades = (np.array([row[3][k] for row in rows]) for k in range(3))
    estimated = np.array([row[6] for row in rows])
    open_time_ms = NOW_MS - NOW_MS % MINUTE_MS - np.array([row[1] for row in rows]) * MINUTE_MS
    closed = np.array([row[5] for row in rows])
    event_ts_ms = np.array(
        [
            open_ms + MINUTE_MS if row[7] is None and row[5] else open_ms + (row[7] or 0)
            for open_ms, row in zip(open_time_ms.tolist(), rows, strict=True)
        ]
    )
    symbols = ("BTCUSDT", "ETH-PERP_X", "1INCHUSDT")
    used = list(dict.fromkeys(row[0] for row in rows))
    return CandleBatch(
        symbols=tuple(symbols[position] for position in used),
        symbol_index=np.array([used.index(row[0]) for row in rows], dtype=np.int32),
        open_time_ms=open_time_ms,
        open=open_, high=high, low=low, close=close,
        volume=volume,
        quote_volume=np.where(estimated, volume * ((high + low + close) / 3), quote_volume),
        trades=trades,
        taker_buy_volume=np.array([row[4][0] for row in rows], dtype=float),
        taker_buy_quote_volume=np.array([row[4][1] for row in rows], dtype=float),
        quote_estimated=estimated,
        closed=closed,
        event_ts_ms=event_ts_ms,
        ingest_ts_ms=np.full(len(rows), NOW_MS),
        exchange=exchange,
    )  # fmt: skip


@given(st.lists(candles, min_size=1, max_size=8))
def test_what_is_rendered_is_read_back_the_same(rows: list[tuple]):
    batch = batch_of(rows)
    parsed = parse(render(batch), ingest_ts_ms=NOW_MS, max_bytes=4096, exchange="binance")
    assert parsed.rejected == []
    assert parsed.batch is not None
    assert parsed.batch.symbols == batch.symbols
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(parsed.batch, name), getattr(batch, name), err_msg=name)


def test_a_closed_candle_carries_the_fields_of_the_specification_and_no_more():
    row = (0, 1, [1.0, 2.0, 3.0, 4.0], (5.0, 6.0, 7), (None, None), True, False, None)
    assert orjson.loads(render(batch_of([row]))[0]) == {
        "symbol": "BTCUSDT",
        "open_time": 1_700_000_040_000,
        "close_time": 1_700_000_099_999,
        "open": 2.0,
        "high": 4.0,
        "low": 1.0,
        "close": 3.0,
        "volume": 5.0,
        "quote_volume": 6.0,
        "number_of_trades": 7,
    }


def test_a_forming_candle_says_so_and_gives_its_event_time():
    row = (0, 0, [1.0, 2.0, 3.0, 4.0], (5.0, 6.0, 7), (1.5, 2.5), False, False, 30_500)
    message = orjson.loads(render(batch_of([row], exchange="okx"))[0])
    assert message["closed"] is False
    assert message["event_time"] == 1_700_000_100_000 + 30_500
    assert (message["taker_buy_volume"], message["taker_buy_quote_volume"]) == (1.5, 2.5)
    assert message["exchange"] == "okx"


def test_no_rows_give_no_messages():
    row = (0, 0, [1.0, 2.0, 3.0, 4.0], (5.0, 6.0, 7), (None, None), True, False, None)
    assert render(batch_of([row]).take(slice(0))) == []
