"""Binance's messages as it sent them: the right candles, tickers and universe, and what cannot be read."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from app.candles.validity import check
from app.feed.exchanges.binance import BinanceFutures
from app.feed.exchanges.exchange import Request
from app.wire.tickers import ExchangeDay
from tests.support.recorded_exchange import (
    exchange_info,
    kline_messages,
    kline_row,
    recorded_symbols,
    ticker_messages,
)

BINANCE = BinanceFutures()
SEEN_MS = 1_700_000_000_000
MINUTE_MS = 60_000


class Answers:
    """Gives one answer, and remembers what was asked."""

    def __init__(self, answer: Any) -> None:
        self.asked: list[Request] = []
        self._answer = answer

    async def __call__(self, request: Request) -> Any:
        self.asked.append(request)
        return self._answer


def test_every_recorded_frame_is_the_candle_it_says():
    reading = BINANCE.read(kline_messages(), SEEN_MS)
    batch = reading.candles
    assert batch is not None
    assert (len(batch), reading.unreadable, reading.tickers) == (166, [], [])
    assert (batch.exchange, set(batch.symbols)) == ("binance", recorded_symbols())
    assert int(batch.closed.sum()) == 4
    for row, message in enumerate(kline_messages()):
        event = orjson.loads(message)["data"]
        kline = event["k"]
        assert batch.symbol_of(row) == event["s"]
        assert (batch.open_time_ms[row], batch.event_ts_ms[row]) == (kline["t"], event["E"])
        assert bool(batch.closed[row]) is kline["x"]
        assert batch.trades[row] == kline["n"]
        for name, key in (
            ("open", "o"), ("high", "h"), ("low", "l"), ("close", "c"), ("volume", "v"), ("quote_volume", "q"),
            ("taker_buy_volume", "V"), ("taker_buy_quote_volume", "Q"),
        ):  # fmt: skip
            assert getattr(batch, name)[row] == float(kline[key])
    assert (batch.ingest_ts_ms == SEEN_MS).all()
    assert not batch.quote_estimated.any()
    assert check(batch, SEEN_MS) == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"", b"\xff\xfe", b"null", b"[]x", b"{", b"{}", b"3", b'{"data": 3}', b'{"data": {"e": "kline"}}',
        b'{"data": {"e": "aggTrade", "s": "BTCUSDT"}}', b'{"result": null, "id": 1}',
        orjson.dumps({"data": {"e": "kline", "E": 1, "k": {"s": "BTCUSDT", "i": "1m", "t": "soon"}}}),
        kline_messages()[0].replace(b'"i":"1m"', b'"i":"5m"'),
        kline_messages()[0].replace(b'"x":false', b'"x":"no"'),
        kline_messages()[0].replace(b'"c":"1.01100"', b'"c":"much"'),
        kline_messages()[0].replace(b'"E":1626992741424', b'"E":1e999'),
    ],
)  # fmt: skip
def test_a_frame_that_cannot_be_read_comes_back_and_the_others_are_read(garbage: bytes):
    good = kline_messages()[:3]
    reading = BINANCE.read([good[0], garbage, *good[1:]], SEEN_MS)
    assert reading.unreadable == [garbage]
    assert reading.candles is not None
    assert [reading.candles.symbol_of(row) for row in range(3)] == [
        orjson.loads(message)["data"]["s"] for message in good
    ]


def test_fields_that_newer_frames_carry_change_nothing():
    document = orjson.loads(kline_messages()[0])
    document["data"] |= {"st": 1, "ps": "CTKUSDT"}
    newer = BINANCE.read([orjson.dumps(document)], SEEN_MS).candles
    older = BINANCE.read(kline_messages()[:1], SEEN_MS).candles
    assert newer is not None
    assert older is not None
    assert newer.close[0] == older.close[0]
    assert newer.symbols == older.symbols


def test_two_frames_that_are_json_only_together_are_two_faults():
    assert BINANCE.read([b'{"data":[1', b"2]}"], SEEN_MS).unreadable == [b'{"data":[1', b"2]}"]


def test_recorded_ticker_arrays_are_tickers_with_their_change_in_percent():
    for message in ticker_messages():
        reading = BINANCE.read([message], SEEN_MS)
        assert reading.unreadable == []
        for ticker, said in zip(reading.tickers, orjson.loads(message), strict=True):
            assert (ticker.symbol, ticker.event_ts_ms) == (said["s"], said["E"])
            assert (ticker.last_price, ticker.high, ticker.low) == tuple(float(said[k]) for k in "chl")
            assert (ticker.volume, ticker.quote_volume) == (float(said["v"]), float(said["q"]))
            change = float(said["c"]) / float(said["o"]) * 100 - 100
            assert ticker.price_change_pct == pytest.approx(change, abs=0.002)
            assert (ticker.day.last_price, ticker.day.open) == (said["c"], said["o"])
            assert (ticker.day.volume, ticker.day.quote_volume) == (said["v"], said["q"])
            # some of the exchange's 24 hours begin with a whole minute
            assert 0 <= ticker.day.close_time_ms - ticker.day.open_time_ms - 86_400_000 < 60_000


async def test_a_whole_ticker_keeps_the_exchanges_digits_over_the_stream_and_over_rest():
    streamed = {
        "e": "24hrTicker", "E": 123_456_789, "s": "BTCUSDT", "p": "0.0015", "P": "250.00", "w": "0.0018", "c": "0.0025",
        "Q": "10", "o": "0.0010", "h": "0.0025", "l": "0.0010", "v": "10000", "q": "18", "O": 0, "C": 86_400_000,
        "F": 0, "L": 18_150, "n": 18_151,
    }  # fmt: skip
    asked = {
        "symbol": "BTCUSDT", "priceChange": "0.0015", "priceChangePercent": "250.00", "weightedAvgPrice": "0.0018",
        "lastPrice": "0.0025", "lastQty": "10", "openPrice": "0.0010", "highPrice": "0.0025", "lowPrice": "0.0010",
        "volume": "10000", "quoteVolume": "18", "openTime": 0, "closeTime": 86_400_000, "firstId": 0,
        "lastId": 18_150, "count": 18_151,
    }  # fmt: skip
    day = ExchangeDay(
        "0.0015",
        "250.00",
        "0.0018",
        "0.0025",
        "10",
        "0.0010",
        "0.0025",
        "0.0010",
        "10000",
        "18",
        0,
        86_400_000,
        18_151,
    )

    async def get(_: Request) -> object:
        return [asked]

    [of_stream] = BINANCE.read([orjson.dumps([streamed])], SEEN_MS).tickers
    [of_rest] = await BINANCE.tickers(get)
    assert of_stream.day == of_rest.day == day
    del asked["lastQty"]
    [partial] = await BINANCE.tickers(get)
    assert (partial.last_price, partial.day) == (0.0025, None)


def test_a_ticker_array_in_a_combined_stream_is_read_too():
    message = orjson.dumps({"stream": "!ticker@arr", "data": orjson.loads(ticker_messages()[-1])})
    assert BINANCE.read([message], SEEN_MS).tickers == BINANCE.read([ticker_messages()[-1]], SEEN_MS).tickers


async def test_the_universe_of_the_real_exchange_info_is_its_trading_perpetuals_in_usdt():
    found = await BINANCE.listings(Answers(exchange_info()))
    assert found.weight_limit == 2400
    symbols = {listing.symbol for listing in found.listings}
    assert len(symbols) == len(found.listings) == 117
    assert {"BTCUSDT", "CTKUSDT", "AKROUSDT"} <= symbols
    # pending, quarterly, and in BUSD
    assert not symbols & {"BTCSTUSDT", "BTCUSDT_210924", "ETHUSDT_210924", "BTCBUSD", "ETHBUSD"}
    assert {listing.onboard_ms for listing in found.listings if listing.symbol == "BTCUSDT"} == {
        1569398400000
    }


async def test_klines_become_closed_candles_with_their_end_as_event_time():
    get = Answers([kline_row(SEEN_MS // MINUTE_MS * MINUTE_MS + n * MINUTE_MS) for n in range(3)])
    first_ms = SEEN_MS // MINUTE_MS * MINUTE_MS
    batch = await BINANCE.klines(get, "BTCUSDT", "1m", first_ms, first_ms + 2 * MINUTE_MS)
    assert batch is not None
    assert batch.closed.all()
    assert batch.symbols == ("BTCUSDT",)
    np.testing.assert_array_equal(batch.open_time_ms, first_ms + np.arange(3) * MINUTE_MS)
    np.testing.assert_array_equal(batch.event_ts_ms, batch.open_time_ms + MINUTE_MS)
    assert (batch.volume[0], batch.quote_volume[0], batch.trades[0]) == (2.0, 20.5, 7)
    assert (batch.taker_buy_volume[0], batch.taker_buy_quote_volume[0]) == (1.0, 10.2)
    assert dict(get.asked[0].parameters) == {
        "symbol": "BTCUSDT", "interval": "1m", "limit": "3",
        "startTime": str(first_ms), "endTime": str(first_ms + 2 * MINUTE_MS),
    }  # fmt: skip
    assert await BINANCE.klines(Answers([]), "BTCUSDT", "1m", first_ms, first_ms) is None


@pytest.mark.parametrize(
    ("minutes", "weight", "limit"), [(1, 1, "1"), (99, 1, "99"), (100, 2, "100"), (5000, 2, "499")]
)
async def test_a_request_for_klines_costs_what_the_exchange_counts(minutes: int, weight: int, limit: str):
    get = Answers([])
    await BINANCE.klines(get, "BTCUSDT", "1m", 0, (minutes - 1) * MINUTE_MS)
    assert (get.asked[0].weight, get.asked[0].parameters["limit"]) == (weight, limit)


def test_streams_are_named_in_the_url():
    base = "wss://fstream.binance.com/market/stream"
    assert BINANCE.stream_url(base, ["BTCUSDT", "1000PEPEUSDT"]) == (
        f"{base}?streams=btcusdt@kline_1m/1000pepeusdt@kline_1m"
    )
    assert BINANCE.ticker_stream_url(base) == f"{base}?streams=!ticker@arr"
    assert BINANCE.streams_per_connection <= 200
