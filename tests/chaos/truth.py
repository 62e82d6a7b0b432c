"""The data expected in the database: the exchange's minutes, and the alerts of one undisturbed pass over them."""

from __future__ import annotations

import time
from typing import Any

import aiohttp
import orjson

from app.backtest.backtest import Backtest
from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.feed.exchanges.binance import BinanceFutures
from app.feed.exchanges.exchange import Request
from app.feed.exchanges.klines import klines_page
from app.rules.evaluation.rulebook import RuleBook
from app.rules.files import load_rules

_HISTORY_MINUTES = 1_200

Alert = tuple[str, str, int, str]
"""rule_type, symbol, open time in UTC ms, id."""
Candle = tuple[str, int, float, float, float, float, float, float]
"""symbol, open time in UTC ms, open, high, low, close, volume, quote volume."""


async def minutes_of_exchange(base_url: str) -> CandleBatch:
    """Return the closed minutes of the last twenty hours of every followed contract, in order of time."""
    pages: list[CandleBatch] = []
    async with aiohttp.ClientSession() as session:

        async def get(request: Request) -> Any:
            async with session.get(base_url + request.path, params=dict(request.parameters)) as answer:
                answer.raise_for_status()
                return orjson.loads(await answer.read())

        info = await get(Request("/fapi/v1/exchangeInfo", {}, 1))
        now_ms = now_in_ms()
        for contract in info["symbols"]:
            kind = (contract["contractType"], contract["quoteAsset"], contract["status"])
            if kind != ("PERPETUAL", "USDT", "TRADING"):
                continue
            first_ms = (now_ms // MINUTE_MS - _HISTORY_MINUTES) * MINUTE_MS
            while page := await klines_page(
                BinanceFutures(), get, contract["symbol"], "1m", first_ms, now_ms, now_ms
            ):
                pages.append(page)
                first_ms = int(page.open_time_ms[-1]) + MINUTE_MS
    candles = concatenate(pages)
    return candles.take(candles.open_time_ms.argsort(kind="stable"))


def alerts_of_an_undisturbed_run(candles: CandleBatch, rules: str, first_ms: int, last_ms: int) -> set[Alert]:
    """Return the alerts of minutes with open times from `first_ms` to `last_ms`; earlier candles only fill windows."""
    backtest = Backtest(RuleBook.compile(load_rules(rules), "close"), since_ms=first_ms)
    backtest.feed(candles)
    assert not backtest.faults
    assert not backtest.counts.invalid
    return {
        (entry.rule_type, entry.symbol, entry.open_time_ms, entry.id)
        for entry in backtest.entries
        if entry.open_time_ms <= last_ms
    }


def rows_of(candles: CandleBatch) -> set[Candle]:
    columns = (candles.open, candles.high, candles.low, candles.close, candles.volume, candles.quote_volume)
    values = zip(*(column.tolist() for column in columns), strict=True)
    return {
        (candles.symbol_of(row), int(candles.open_time_ms[row]), *ohlcv) for row, ohlcv in enumerate(values)
    }


def now_in_ms() -> int:
    return time.time_ns() // 1_000_000
