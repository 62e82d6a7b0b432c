"""What an exchange says in place of an answer is shown, told apart by what it means, and not hammered against."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from app.errors import (
    ExchangeBlocked,
    ExchangeError,
    ExchangeLimited,
    ExchangeRefused,
    ExchangeUnreachable,
)
from app.feed.exchanges.answers import advice_for, shown
from app.feed.exchanges.binance import BinanceFutures
from app.feed.exchanges.bybit import BybitLinear
from app.feed.exchanges.exchange import Request, Venue
from app.feed.exchanges.rate_limit import RateLimit
from app.feed.exchanges.reachability import check_exchange
from app.feed.exchanges.rest import RestClient
from app.feed.exchanges.venues import exchange_access
from app.feed.feed_health import FEED_HEALTH
from app.feed.sockets.connection import Connection, SocketTimes
from app.feed.sockets.socket import Streams, always_room
from app.role_health import dependencies_of
from app.settings import Settings
from app.telemetry import feed_metrics
from app.wire.retry import Backoff
from tests.support.eventually import eventually
from tests.support.http_server import serving

METRICS = feed_metrics(CollectorRegistry())

CLOUDFRONT = (
    "<!DOCTYPE HTML><HTML><HEAD><TITLE>ERROR</TITLE><style>p {color: red}</style></HEAD><BODY><H1>403 ERROR</H1> "
    "The Amazon CloudFront distribution is configured to block access from your country.</BODY></HTML>"
)
RESTRICTED = (
    """{"code": 0, "msg": "Service unavailable from a restricted location according to 'b. Eligibility'"}"""
)
TOO_MANY = """{"code": -1003, "msg": "Too many requests; current limit is 2400 requests per minute."}"""


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    FEED_HEALTH.last_fault = ""


class Answering:
    """Answers every request alike, and counts them."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        self.status, self.text, self.headers = status, text, headers or {}
        self.requests = 0
        self.url = ""

    async def answer(self, _: web.Request) -> web.Response:
        self.requests += 1
        return web.Response(status=self.status, text=self.text, headers=self.headers)


@asynccontextmanager
async def answering(status: int, text: str, **headers: str) -> AsyncIterator[Answering]:
    exchange = Answering(status, text, {name.replace("_", "-"): value for name, value in headers.items()})
    app = web.Application()
    app.router.add_get("/{path:.*}", exchange.answer)
    async with serving(app) as exchange.url:
        yield exchange


async def fault_once(exchange: Answering, venue: Venue, limit: RateLimit) -> ExchangeError:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ExchangeError) as caught:
            await RestClient(session, venue, exchange.url, limit, METRICS).get_once(
                Request("/fapi/v1/klines")
            )
    return caught.value


BYBIT_CODES = {
    10006: ExchangeLimited, 10018: ExchangeLimited, 10024: ExchangeBlocked, 10009: ExchangeBlocked,
    10016: ExchangeUnreachable, 10001: ExchangeRefused,
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "text", "kind", "said"),
    [
        (403, CLOUDFRONT, ExchangeBlocked, "configured to block access from your country"),
        (451, RESTRICTED, ExchangeBlocked, "restricted location"),
        (403, "access too frequent", ExchangeLimited, "access too frequent"),
        (429, TOO_MANY, ExchangeLimited, "Too many requests"),
        (418, "Way too many requests; IP banned", ExchangeLimited, "IP banned"),
        (400, TOO_MANY, ExchangeLimited, "Too many requests"),
        (400, """{"code":-1121,"msg":"Invalid symbol."}""", ExchangeRefused, "Invalid symbol."),
        (404, "", ExchangeRefused, "(nothing)"),
        (502, "<html><title>Bad Gateway</title></html>", ExchangeUnreachable, "Bad Gateway"),
        (200, "<html>maintenance \x1b[31m until 8\x00 UTC</html>", ExchangeUnreachable, "maintenance [31m until 8 UTC"),
    ],
)  # fmt: skip
async def test_an_answer_is_taken_for_what_it_is_and_its_text_is_shown(
    status: int, text: str, kind: type[ExchangeError], said: str
):
    limit = RateLimit(1_000, METRICS)
    async with answering(status, text) as exchange:
        fault = await fault_once(exchange, BinanceFutures(), limit)
    assert type(fault) is kind
    assert said in str(fault)
    assert "<" not in str(fault)
    assert FEED_HEALTH.last_fault == str(fault)
    assert (limit.paused_s > 0) == (kind in (ExchangeLimited, ExchangeBlocked))


@pytest.mark.parametrize("code", BYBIT_CODES)
async def test_codes_of_bybit_are_taken_for_what_they_are(code: int):
    limit = RateLimit(1_000, METRICS)
    text = orjson.dumps({"retCode": code, "retMsg": "what it\x07 says", "result": {}}).decode()
    async with answering(200, text) as exchange:
        fault = await fault_once(exchange, BybitLinear(), limit)
    assert type(fault) is BYBIT_CODES[code]
    assert f"code {code}: what it says" in str(fault)
    assert (limit.paused_s > 0) == isinstance(fault, ExchangeLimited | ExchangeBlocked)


async def test_a_pause_that_it_names_counts_and_a_block_is_asked_once():
    limit = RateLimit(1_000, METRICS)
    async with answering(429, TOO_MANY, Retry_After="7") as exchange:
        await fault_once(exchange, BinanceFutures(), limit)
    assert 6 < limit.paused_s <= 7

    async with answering(451, RESTRICTED) as exchange, aiohttp.ClientSession() as session:
        limit = RateLimit(1_000, METRICS)
        client = RestClient(session, BinanceFutures(), exchange.url, limit, METRICS)
        with structlog.testing.capture_logs() as logs, pytest.raises(ExchangeBlocked):
            await client.get(Request("/fapi/v1/time"))
        assert exchange.requests == 1
        assert limit.paused_s > 200
    said = [one["said"] for one in logs if one["event"] == "exchange_blocks_us"]
    assert len(said) == 1
    assert "restricted location" in said[0]


async def test_an_answer_without_end_is_not_read_to_its_end():
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 1_048_576)

    app = web.Application()
    app.router.add_get("/endless", endless)
    async with serving(app) as url, aiohttp.ClientSession() as session:
        with pytest.raises(ExchangeUnreachable, match="more than"):
            await RestClient(session, BinanceFutures(), url, RateLimit(9, METRICS), METRICS).get_once(
                Request("/endless")
            )


@pytest.mark.parametrize(("status", "text"), [(403, CLOUDFRONT), (451, RESTRICTED)])
async def test_the_first_look_says_why_and_what_can_be_done(status: int, text: str):
    async with answering(status, text) as exchange:
        with pytest.raises(ExchangeBlocked) as caught:
            await check_exchange(exchange_access("binance", exchange.url, "ws://127.0.0.1:1"))
    assert str(status) in str(caught.value)
    assert "SCREENER_EXCHANGE" in advice_for(caught.value)


async def test_a_socket_that_the_exchange_does_not_want_is_not_tried_again_soon():
    async with answering(403, CLOUDFRONT) as exchange, aiohttp.ClientSession() as session:
        connection = Connection(
            "klines-0", session, Streams(exchange.url), lambda _: None, always_room,
            SocketTimes(backoff=Backoff(0.01, 0.02)), METRICS,
        )  # fmt: skip
        with structlog.testing.capture_logs() as logs:
            task = asyncio.create_task(connection.run())
            await eventually(lambda: [one for one in logs if one["event"] == "connection_lost"])
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert "the exchange answers 403" in connection.last_error
    assert logs[-1]["again_in_s"] >= 150


async def test_the_health_of_the_feed_shows_what_the_exchange_says():
    async with answering(451, RESTRICTED) as exchange:
        await fault_once(exchange, BinanceFutures(), RateLimit(1_000, METRICS))
    settings = Settings.load(
        {}, nats_url="nats://h:1", kafka_url="h:2", redis_url="redis://h:3", postgres_url="postgresql://h:4/d"
    )
    asked = {one.name: one for one in dependencies_of(["feed"], settings.servers())}
    for name in ("exchange", "exchange-rest"):
        with pytest.raises(ExchangeUnreachable, match="restricted location"):
            await asked[name].ask()
    FEED_HEALTH.last_fault = ""
    await asked["exchange-rest"].ask()


def test_what_is_shown_is_one_short_line():
    assert shown(b"\xff\x00\n  a \t b \x1b]0;title\x07") == "\ufffd a b ]0;title"
    assert len(shown("x" * 10_000)) == 200
    assert shown("<b>" * 1_000) == "(nothing)"
