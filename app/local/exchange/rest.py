"""/fapi/v1/...: time, exchangeInfo, klines and 24 h tickers, with weights, refusals and faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import numpy as np
import orjson
from aiohttp import web

from app.local.exchange.exchange import Exchange
from app.local.exchange.exchange_info import exchange_info
from app.local.exchange.faults.active import Faults
from app.local.exchange.history import Asked
from app.local.exchange.intervals import LENGTHS
from app.local.exchange.render import klines_json, tickers_json
from app.local.exchange.weights import Refusal, Weights

_KLINES_DEFAULT: Final = 500
_KLINES_MOST: Final = 1500
_LATEST_MS: Final = 4_102_444_800_000
"""2100-01-01"""
_PREFIX: Final = "/fapi/"
_CORS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "X-MBX-USED-WEIGHT-1M, Retry-After",
}
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
}
Answer = Callable[[web.Request], Awaitable[bytes]]
Weigh = Callable[[web.Request], int]


class ApiError(Exception):
    """Answered as 400 with the exchange's code and text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


async def allow_pages(request: web.Request, response: web.StreamResponse) -> None:
    """Let pages of any origin read the answers of the exchange's protocol, errors too, but not the answers to
    commands to the simulation."""
    if request.path.startswith(_PREFIX):
        response.headers.update(_CORS)


async def _preflight(_: web.Request) -> web.Response:
    return web.Response(status=204, headers=_PREFLIGHT)


class Rest:
    """Handlers of REST requests. `requests`: requests so far. `refused`: requests answered with 418 or 429."""

    def __init__(self, exchange: Exchange, faults: Faults, weights: Weights) -> None:
        self._exchange = exchange
        self._faults = faults
        self._weights = weights
        self.requests = self.refused = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/fapi/v1/ping", self._handler(self._ping, lambda _: 1)),
            web.get("/fapi/v1/time", self._handler(self._time, lambda _: 1)),
            web.get("/fapi/v1/exchangeInfo", self._handler(self._exchange_info, lambda _: 1)),
            web.get("/fapi/v1/klines", self._handler(self._klines, _klines_weight)),
            web.get("/fapi/v1/ticker/24hr", self._handler(self._tickers, _tickers_weight)),
            web.options(_PREFIX + "{path:.*}", _preflight),
        ]

    def _handler(self, answer: Answer, weigh: Weigh) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            self.requests += 1
            if delay_s := self._faults.rest_delay_s():
                await asyncio.sleep(delay_s)
            if broken := self._faults.rest_error():
                return self._broken(*broken)
            used, refusal = self._weights.spend(request.remote or "", weigh(request))
            headers = {"X-MBX-USED-WEIGHT-1M": str(used)}
            if refusal is not None:
                return self._refuse(refusal, headers)
            try:
                body = await answer(request)
            except ApiError as error:
                return _problem(400, error.code, str(error), headers)
            return web.Response(body=body, content_type="application/json", headers=headers)

        return handle

    def _broken(self, status: int, left_s: float) -> web.Response:
        if status in (418, 429):
            return self._refuse(Refusal(status, max(1, round(left_s))), {})
        # as from the balancer in front of the exchange: no JSON, no weights
        return web.Response(status=status, text=f"<html><head><title>{status}</title></head></html>")

    def _refuse(self, refusal: Refusal, headers: dict[str, str]) -> web.Response:
        self.refused += 1
        limit = self._weights.per_minute
        text = (
            f"Too many requests; current limit is {limit} requests per minute."
            if refusal.status == 429
            else "Way too many requests; IP banned."
        )
        return _problem(refusal.status, -1003, text, headers | {"Retry-After": str(refusal.retry_after_s)})

    async def _ping(self, _: web.Request) -> bytes:
        return b"{}"

    async def _time(self, _: web.Request) -> bytes:
        return b'{"serverTime":%d}' % self._exchange.clock.now_ms()

    async def _exchange_info(self, _: web.Request) -> bytes:
        now_ms = self._exchange.clock.now_ms()
        return orjson.dumps(exchange_info(self._exchange.listings, now_ms, self._weights.per_minute))

    async def _klines(self, request: web.Request) -> bytes:
        contract = self._contract(request.query.get("symbol"))
        klines = await self._exchange.klines(contract, _asked(request))
        if klines.interval == "1m" and (lost := self._faults.lost_minutes(contract)):
            kept = klines.bars.without(np.isin(klines.open_minutes, lost))
            klines = replace(klines, bars=kept)
        return klines_json(self._exchange.market.contracts[contract], klines)

    async def _tickers(self, request: web.Request) -> bytes:
        symbol = request.query.get("symbol")
        traded = np.flatnonzero(self._exchange.listings.traded(self._exchange.minute))
        which = traded if symbol is None else np.array([self._contract(symbol)], dtype=np.intp)
        day = await self._exchange.day_bars()
        now_ms = self._exchange.clock.now_ms()
        texts = tickers_json("rest", self._exchange.market.contracts, which, day, now_ms)
        return (texts[0] if symbol is not None else "[" + ",".join(texts) + "]").encode()

    def _contract(self, symbol: str | None) -> int:
        if not symbol:
            raise ApiError(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        contract = self._exchange.listings.index.get(symbol.upper())
        if contract is None or contract not in self._exchange.listings.listed():
            raise ApiError(-1121, "Invalid symbol.")
        return contract


def _asked(request: web.Request) -> Asked:
    interval = request.query.get("interval")
    if not interval:
        raise ApiError(-1102, "Mandatory parameter 'interval' was not sent, was empty/null, or malformed.")
    if interval not in LENGTHS:
        raise ApiError(-1120, "Invalid interval.")
    limit = _number(request, "limit", 1, _KLINES_MOST)
    start_ms, end_ms = (_number(request, name, 0, _LATEST_MS) for name in ("startTime", "endTime"))
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise ApiError(-1023, "Start time is greater than end time.")
    return Asked(interval, start_ms, end_ms, _KLINES_DEFAULT if limit is None else limit)


def _number(request: web.Request, name: str, least: int, most: int) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not least <= int(text[:20]) <= most:
        raise ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")
    return int(text)


def _klines_weight(request: web.Request) -> int:
    """Return the weight of a request as the exchange counts it: by the number of requested candles."""
    text = request.query.get("limit", "")
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else _KLINES_DEFAULT
    for below, weight in ((100, 1), (500, 2), (1001, 5)):
        if limit < below:
            return weight
    return 10


def _tickers_weight(request: web.Request) -> int:
    return 1 if "symbol" in request.query else 40


def _problem(status: int, code: int, message: str, headers: dict[str, str]) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps({"code": code, "msg": message}),
        content_type="application/json",
        headers=headers,
    )
