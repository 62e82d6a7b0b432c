"""Bybit's documented messages behind the same interface: the shapes are those of its API pages."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from app.candles.validity import check
from app.errors import ExchangeLimited, ExchangeRefused, SettingsError
from app.feed.exchanges.bybit import BybitLinear
from app.feed.exchanges.exchange import Request
from app.feed.exchanges.venues import VENUES, exchange_access

SEEN_MS = 1_672_324_989_000
MINUTE_MS = 60_000


def push(symbol: str = "BTCUSDT", interval: str = "1", **fields: Any) -> bytes:
    kline = {
        "start": 1672324800000, "end": 1672324859999, "interval": interval, "open": "16649.5", "close": "16677",
        "high": "16677", "low": "16608", "volume": "2.081", "turnover": "34666.4005", "confirm": False,
        "timestamp": 1672324988882,
    }  # fmt: skip
    message = {
        "topic": f"kline.{interval}.{symbol}", "data": [kline | fields], "ts": 1672324988882, "type": "snapshot",
    }  # fmt: skip
    return orjson.dumps(message)


def answer(result: dict[str, Any]) -> dict[str, Any]:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 1672026471128}


def instrument(symbol: str, base: str, **fields: Any) -> dict[str, Any]:
    return {
        "symbol": symbol, "contractType": "LinearPerpetual", "status": "Trading", "baseCoin": base,
        "quoteCoin": "USDT", "launchTime": "1585526400000",
    } | fields  # fmt: skip


class Answers:
    """Gives the answers in order, and remembers what was asked."""

    def __init__(self, *answers: Any) -> None:
        self.asked: list[Request] = []
        self._answers = list(answers)

    async def __call__(self, request: Request) -> Any:
        self.asked.append(request)
        return self._answers.pop(0)


def test_a_push_is_a_candle_of_this_venue():
    reading = BybitLinear().read([push(), push("ETHUSDT", confirm=True)], SEEN_MS)
    batch = reading.candles
    assert batch is not None
    assert (batch.exchange, batch.symbols, batch.closed.tolist()) == (
        "bybit", ("BTCUSDT", "ETHUSDT"), [False, True],
    )  # fmt: skip
    assert (batch.open_time_ms[0], batch.event_ts_ms[0]) == (1672324800000, 1672324988882)
    assert (batch.open[0], batch.high[0], batch.low[0], batch.close[0]) == (
        16649.5,
        16677.0,
        16608.0,
        16677.0,
    )
    assert (batch.volume[0], batch.quote_volume[0], batch.trades[0]) == (2.081, 34666.4005, 0)
    assert np.isnan(batch.taker_buy_volume).all()
    assert check(batch, SEEN_MS) == []


def test_answers_to_our_messages_are_neither_candles_nor_faults():
    acknowledged = b'{"success":true,"ret_msg":"","conn_id":"a1","req_id":"","op":"subscribe"}'
    pong = b'{"success":true,"ret_msg":"pong","conn_id":"a1","req_id":"","op":"ping"}'
    reading = BybitLinear().read([acknowledged, pong], SEEN_MS)
    assert (reading.candles, reading.unreadable) == (None, [])
    assert BybitLinear.keepalive_answer in pong
    assert BybitLinear.keepalive_answer not in acknowledged + push()


@pytest.mark.parametrize(
    "garbage",
    [
        b"", b"[]", b"3", b"{}", push(interval="5"), push(confirm="yes"), push(close="much"),
        b'{"success":false,"ret_msg":"error:handler not found","op":"subscribe"}',
    ],
)  # fmt: skip
def test_a_frame_that_cannot_be_read_comes_back_and_the_others_are_read(garbage: bytes):
    reading = BybitLinear().read([push(), garbage, push("ETHUSDT")], SEEN_MS)
    assert reading.unreadable == [garbage]
    assert reading.candles is not None
    assert reading.candles.symbols == ("BTCUSDT", "ETHUSDT")


async def test_the_universe_is_its_trading_perpetuals_in_usdt_over_all_pages_by_canonical_names():
    bybit = BybitLinear()
    get = Answers(
        answer(
            {
                "category": "linear",
                "list": [
                    instrument("BTCUSDT", "BTC"),
                    instrument("BTCPERP", "BTC", quoteCoin="USDC"),
                    instrument("BTC-29MAR24", "BTC", contractType="LinearFutures"),
                    instrument("SHIB1000USDT", "SHIB1000"),
                ],
                "nextPageCursor": "first%3DBTC",
            }
        ),
        answer(
            {
                "category": "linear",
                "list": [
                    instrument("1000PEPEUSDT", "1000PEPE"),
                    instrument("OLDUSDT", "OLD", status="Closed"),
                ],
                "nextPageCursor": "",
            }
        ),
    )
    found = await bybit.listings(get)
    assert [one.symbol for one in found.listings] == ["BTCUSDT", "1000SHIBUSDT", "1000PEPEUSDT"]
    assert found.listings[0].onboard_ms == 1585526400000
    assert [one.parameters.get("cursor") for one in get.asked] == [None, "first%3DBTC"]
    # and back: requests, topics and pushes carry the exchange's own names
    subscribed = orjson.loads(bybit.subscriptions(["BTCUSDT", "1000SHIBUSDT"])[0])
    assert subscribed == {"op": "subscribe", "args": ["kline.1.BTCUSDT", "kline.1.SHIB1000USDT"]}
    candles = bybit.read([push("SHIB1000USDT")], SEEN_MS).candles
    assert candles is not None
    assert candles.symbols == ("1000SHIBUSDT",)
    get = Answers(answer({"symbol": "SHIB1000USDT", "category": "linear", "list": []}))
    assert await bybit.klines(get, "1000SHIBUSDT", "1m", 0, MINUTE_MS) is None
    assert get.asked[0].parameters["symbol"] == "SHIB1000USDT"


async def test_klines_come_newest_first_and_are_given_oldest_first():
    rows = [
        ["1670608800000", "17071", "17073", "17027", "17055.5", "268611", "15.74462667"],
        ["1670605200000", "17071.5", "17071.5", "17061", "17071", "4177", "0.24469757"],
    ]
    get = Answers(answer({"symbol": "BTCUSDT", "category": "linear", "list": rows}))
    batch = await BybitLinear().klines(get, "BTCUSDT", "1h", 1670605200000, 1670608800000)
    assert batch is not None
    assert batch.open_time_ms.tolist() == [1670605200000, 1670608800000]
    assert batch.close.tolist() == [17071.0, 17055.5]
    assert batch.quote_volume.tolist() == [0.24469757, 15.74462667]
    assert batch.closed.all()
    assert get.asked[0].parameters["interval"] == "60"


BAR = ["60000000", "17071", "17073", "17027", "17055.5", "268611", "15.74462667"]


async def test_a_span_longer_than_a_page_is_asked_for_from_its_beginning():
    get = Answers(answer({"list": [BAR]}))
    await BybitLinear().klines(get, "BTCUSDT", "1m", 0, 5_000 * MINUTE_MS)
    asked = get.asked[0].parameters
    assert (asked["start"], asked["end"], asked["limit"]) == ("0", str(999 * MINUTE_MS), "1000")


async def test_a_page_without_bars_does_not_hide_those_of_the_next():
    get = Answers(answer({"list": []}), answer({"list": [BAR]}))
    batch = await BybitLinear().klines(get, "BTCUSDT", "1m", 0, 1_440 * MINUTE_MS)
    assert batch is not None
    assert batch.open_time_ms.tolist() == [1_000 * MINUTE_MS]
    spans = [(int(asked.parameters["start"]), int(asked.parameters["end"])) for asked in get.asked]
    assert spans == [(0, 999 * MINUTE_MS), (1_000 * MINUTE_MS, 1_440 * MINUTE_MS)]


async def test_a_span_without_any_bars_gives_none_after_its_last_page():
    get = Answers(answer({"list": []}), answer({"list": []}))
    assert await BybitLinear().klines(get, "BTCUSDT", "1m", 0, 1_440 * MINUTE_MS) is None
    assert len(get.asked) == 2


async def test_tickers_give_the_change_in_percent():
    one = {
        "symbol": "BTCUSDT", "lastPrice": "16597.00", "price24hPcnt": "0.008047", "highPrice24h": "30912.50",
        "lowPrice24h": "15700.00", "turnover24h": "2352.94950046", "volume24h": "49337318",
        "prevPrice24h": "16464.50",
    }  # fmt: skip
    [ticker] = await BybitLinear().tickers(Answers(answer({"category": "linear", "list": [one]})))
    assert ticker.price_change_pct == pytest.approx(0.8047)
    assert (ticker.last_price, ticker.volume, ticker.quote_volume) == (16597.0, 49337318.0, 2352.94950046)
    assert ticker.event_ts_ms == 1672026471128
    assert ticker.day is not None
    assert (ticker.day.last_price, ticker.day.open) == ("16597.00", "16464.50")
    assert (ticker.day.price_change, ticker.day.price_change_pct) == ("132.50", "0.805")


async def test_refusals_come_with_status_200_and_are_told_apart():
    refused = {"retCode": 10001, "retMsg": "params error: symbol invalid", "result": {}}
    with pytest.raises(ExchangeRefused, match="symbol invalid"):
        await BybitLinear().klines(Answers(refused), "NOSUCH", "1m", 0, 0)
    limited = {"retCode": 10006, "retMsg": "Too many visits!", "result": {}}
    with pytest.raises(ExchangeLimited):
        await BybitLinear().server_time_ms(Answers(limited))


def test_the_setting_chooses_the_venue_and_its_addresses():
    bybit = exchange_access("bybit", None, None)
    assert isinstance(bybit.venue, BybitLinear)
    assert bybit.rest_url == "https://api.bybit.com"
    assert bybit.ws_url == "wss://stream.bybit.com/v5/public/linear"
    own = exchange_access("bybit", "http://here:1", "ws://here:1/x")
    assert (own.rest_url, own.ws_url) == ("http://here:1", "ws://here:1/x")
    with pytest.raises(SettingsError, match="knows binance, bybit"):
        exchange_access("kraken", None, None)
    assert all(venue.name == name for name, venue in VENUES.items())
