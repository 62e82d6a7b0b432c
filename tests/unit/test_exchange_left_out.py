"""Which contracts an exchange lists are followed, and that those left out are said, counted by reason."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from app.feed.exchanges.binance import BinanceFutures
from app.feed.exchanges.bybit import BybitLinear
from app.feed.exchanges.exchange import LeftOut, Listing, Request
from app.feed.exchanges.rate_limit import RateLimit
from app.feed.universe import FollowedSymbols
from app.telemetry import feed_metrics
from tests.support.metric_values import value_of

METRICS = feed_metrics(CollectorRegistry())

PERPETUAL = {"contractType": "PERPETUAL", "quoteAsset": "USDT", "status": "TRADING", "onboardDate": 1}
LINEAR = {"contractType": "LinearPerpetual", "quoteCoin": "USDT", "status": "Trading", "launchTime": "1"}


def binance(symbol: Any, **changed: Any) -> dict[str, Any]:
    return PERPETUAL | {"symbol": symbol} | changed


def bybit(base: str, **changed: Any) -> dict[str, Any]:
    return LINEAR | {"symbol": f"{base}USDT", "baseCoin": base} | changed


LISTED_BY_BINANCE = [
    binance("BTCUSDT"),
    binance("ETHUSDT"),
    binance("XAUUSDT", contractType="TRADIFI_PERPETUAL"),
    binance("BTCUSDC", quoteAsset="USDC"),
    *(binance(f"BTCUSDT_{kind}", contractType=kind) for kind in
      ("CURRENT_MONTH", "NEXT_MONTH", "CURRENT_QUARTER", "NEXT_QUARTER", "PERPETUAL_DELIVERING")),
    binance("NEWUSDT", contractType="", status="PENDING_TRADING"),
    *(binance(f"OLD{n}USDT", status=status) for n, status in
      enumerate(("PRE_SETTLE", "SETTLING", "CLOSE", "PRE_DELIVERING", "DELIVERING", "DELIVERED"))),
    binance("NO SPACE"),
    {"symbol": "HALF"},
    None,
    binance(5),
]  # fmt: skip
LISTED_BY_BYBIT = [
    bybit("BTC"),
    bybit("ETH", symbolType="innovation"),
    bybit("TSLA", symbolType="stock"),
    bybit("BTC", quoteCoin="USDC"),
    bybit("BTC", contractType="LinearFutures"),
    *(bybit(f"OLD{status}", status=status) for status in ("PreLaunch", "Delivering", "Closed")),
    {"symbol": "HALF"},
]


class Exchange:
    def __init__(self) -> None:
        self.binance = list(LISTED_BY_BINANCE)

    async def get(self, request: Request) -> Any:
        match request.path:
            case "/fapi/v1/exchangeInfo":
                return {"symbols": self.binance}
            case "/fapi/v1/ticker/24hr":
                zero = dict.fromkeys(
                    ("lastPrice", "priceChangePercent", "highPrice", "lowPrice", "volume"), "0"
                )
                row = zero | {"closeTime": 1}
                return [
                    row | {"symbol": "BTCUSDT", "quoteVolume": "9"},
                    row | {"symbol": "ETHUSDT", "quoteVolume": "8"},
                    {"symbol": "HALF"},
                ]
            case "/v5/market/instruments-info":
                return {"retCode": 0, "result": {"list": LISTED_BY_BYBIT, "nextPageCursor": ""}}
        raise AssertionError(request.path)


async def test_every_kind_and_status_of_binance_is_told_apart():
    found = await BinanceFutures().listings(Exchange().get)
    assert found.listings == (
        Listing("BTCUSDT", 1), Listing("ETHUSDT", 1), Listing("XAUUSDT", 1, tradifi=True),
    )  # fmt: skip
    assert found.left_out == {
        LeftOut.OTHER_QUOTE: 1, LeftOut.DATED: 5, LeftOut.NOT_TRADING: 7, LeftOut.BAD_SYMBOL: 1, LeftOut.UNREADABLE: 3,
    }  # fmt: skip


async def test_every_kind_and_status_of_bybit_is_told_apart():
    found = await BybitLinear().listings(Exchange().get)
    assert found.listings == (
        Listing("BTCUSDT", 1), Listing("ETHUSDT", 1), Listing("TSLAUSDT", 1, tradifi=True),
    )  # fmt: skip
    assert found.left_out == {
        LeftOut.OTHER_QUOTE: 1, LeftOut.DATED: 1, LeftOut.NOT_TRADING: 3, LeftOut.UNREADABLE: 1,
    }  # fmt: skip


async def test_a_list_of_which_most_cannot_be_read_is_no_list():
    exchange = Exchange()
    exchange.binance = [binance("BTCUSDT"), {"s": "ETHUSDT"}, {"s": "XRPUSDT"}]
    with pytest.raises(ValueError, match="2 of 3"):
        await BinanceFutures().listings(exchange.get)


@pytest.mark.parametrize(
    ("tradifi", "size", "followed", "more"),
    [
        (False, 500, {"BTCUSDT", "ETHUSDT"}, {"tradifi": 1}),
        (True, 500, {"BTCUSDT", "ETHUSDT", "XAUUSDT"}, {}),
        (True, 1, {"BTCUSDT"}, {"smaller": 2}),
    ],
)
async def test_what_is_left_out_is_said_once_and_shown_in_a_metric(
    tradifi: bool, size: int, followed: set[str], more: dict[str, int]
):
    told: list[set[str]] = []
    again = asyncio.Event()

    async def on_universe(listings: Sequence[Listing], _: object) -> None:
        told.append({listing.symbol for listing in listings})
        if len(told) == 3:
            raise EOFError

    universe = FollowedSymbols(
        BinanceFutures(),
        Exchange().get,
        RateLimit(100, METRICS),
        size,
        0.01,
        on_universe,
        METRICS,
        tradifi=tradifi,
    )
    with structlog.testing.capture_logs() as logs, pytest.raises(EOFError):
        await universe.run(again)
    assert told == [followed] * 3
    said = [one for one in logs if one["event"] == "symbols_left_out"]
    assert len(said) == 1
    expected = {"other_quote": 1, "dated": 5, "not_trading": 7, "bad_symbol": 1, "unreadable": 3} | more
    assert {reason: said[0][reason] for reason in LeftOut if reason in said[0]} == expected
    assert said[0]["total"] == sum(expected.values())
    shown = {reason: value_of(METRICS.left_out.labels(reason=reason)) for reason in LeftOut}
    assert shown == dict.fromkeys(LeftOut, 0) | expected
