"""Mutated frames and REST answers of exchanges, for the parts of the feed that read them, with checks after each.

`python -m tests.fuzz.feed --inputs 1000000 [--seed N]`. Recorded frames are mutated too, if they are available.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
import structlog
from prometheus_client import CollectorRegistry

from app.candles.batch import CandleBatch
from app.candles.symbols import is_symbol
from app.clock import ManualClock
from app.errors import ExchangeError
from app.feed.exchange_clock import AGREE_MS, ExchangeClock, TimeWatch
from app.feed.exchanges.answers import fault_of, reading_answer, shown
from app.feed.exchanges.binance import BinanceFutures
from app.feed.exchanges.bybit import BybitLinear
from app.feed.exchanges.exchange import Request, Venue
from app.feed.exchanges.klines import klines_page
from app.feed.frame_queue import FrameQueue
from app.feed.history.coverage import Coverage
from app.feed.pump import Pump, SharedPublisher
from app.feed.ticker_feed import TickerFeed
from app.telemetry import feed_metrics
from app.wire.nats.candles import parse
from app.wire.nats.render import render
from tests.support.kline_frames import frame
from tests.support.market_data import market_data_dir

METRICS = feed_metrics(CollectorRegistry())

MINUTE_MS = 60_000
NOW_MS = 29_000_000 * MINUTE_MS + 30_000
SYMBOLS = tuple(f"{letter}USDT" for letter in "ABCDEFGH")
HOSTILE: tuple[Any, ...] = (
    None, True, False, [], {}, "", "NaN", "-Infinity", "1e999", "0x10", "1_0", -1, 0, 0.5, 1e308, 2**31, 2**53,
    2**63 - 1, 2**63, 2**64 - 1, -(2**63), "9" * 400, "\u202e", "\x00\x1b[2J", "\u9f99\u867eUSDT", "a b", "x" * 5_000,
    [[[[]]]], {"e": "kline"}, NOW_MS + 3_600_000, NOW_MS * 1000, NOW_MS // 1000, NOW_MS * 1_000_000,
    NOW_MS + AGREE_MS, NOW_MS + 2 * MINUTE_MS, "TRADING", "kline", "1m", "1h",
)  # fmt: skip


@dataclass
class Tally:
    inputs: int = 0
    kinds: Counter[str] = field(default_factory=Counter)


def fuzz(seed: int, inputs: int) -> Tally:
    """Try this many inputs. Raises AssertionError for the first input after which a check fails, or the exception of a
    part."""
    before = structlog.get_config()
    structlog.configure(processors=[_drop])
    try:
        return asyncio.run(_fuzz(random.Random(seed), inputs))
    finally:
        structlog.configure(**before)


def _drop(_: object, __: str, ___: object) -> str:
    raise structlog.DropEvent


async def _fuzz(chance: random.Random, inputs: int) -> Tally:
    tally = Tally()
    readers = [_Sockets(venue(), frames(), chance) for venue, frames in FRAMES.items()]
    while tally.inputs < inputs:
        kind = chance.random()
        if kind < 0.6:
            await chance.choice(readers).take(tally)
        elif kind < 0.95:
            await answer(chance, tally)
        else:
            refusal(chance, tally)
    return tally


class _Published:
    """Checks that the bridge can read or reject every candle that the feed publishes."""

    def __init__(self, clock: ManualClock, exchange: str) -> None:
        self._clock = clock
        self._exchange = exchange
        self.rows = self.unreadable = 0

    async def publish(self, batch: CandleBatch, candles_per_message: int | None = None) -> None:
        self.rows += len(batch)
        payloads = render(batch)
        assert len(payloads) == len(batch)
        parsed = parse(
            payloads, ingest_ts_ms=self._clock.now_ms(), max_bytes=2**20, exchange=self._exchange, live=set()
        )
        good = 0 if parsed.batch is None else len(parsed.batch)
        assert good + len(parsed.rejected) == len(batch)

    async def publish_unreadable(self, payload: bytes) -> None:
        self.unreadable += 1


class _Sockets:
    """Feeds frames of one venue through its own pump, and checks its state."""

    def __init__(self, venue: Venue, base: Sequence[bytes], chance: random.Random) -> None:
        self._venue, self._base, self._chance = venue, base, chance
        self._host = ManualClock(NOW_MS)
        self._clock = ExchangeClock(self._host)
        self._clock.told(NOW_MS)
        self._coverage = Coverage(1_500)
        for symbol in SYMBOLS:
            self._coverage.expect(symbol, NOW_MS - 5 * MINUTE_MS)
        self._inbox, self._published = FrameQueue(), _Published(self._host, venue.name)
        publisher = SharedPublisher(cast(Any, self._published), self._coverage)
        self._pump = Pump(venue, self._inbox, publisher, set(SYMBOLS), self._clock, self._host, METRICS)
        self._tickers = TickerFeed(venue, cast(Any, None), cast(Any, None), self._host)
        self._tickers._followed = frozenset(SYMBOLS)

    async def take(self, tally: Tally) -> None:
        frames = [self._frame() for _ in range(self._chance.randint(1, 8))]
        for one in frames:
            self._inbox.add(one)
        while len(self._inbox):
            await self._pump._read_some()
        if self._pump._outbox.rows:
            await self._pump._publisher.publish(await self._pump._outbox.take())
        self._tickers.take(self._chance.choice(frames))
        tally.inputs += len(frames)
        tally.kinds[f"frames of {self._venue.name}"] += len(frames)
        self._check()
        if self._chance.random() < 0.02:
            self._host.advance_ms(self._chance.choice((100, 1_000, 20_000)))

    def _frame(self) -> bytes:
        base = self._chance.choice(self._base)
        if self._chance.random() < 0.2:
            return base
        return (
            mutated_bytes(self._chance, base) if self._chance.random() < 0.3 else mutated(self._chance, base)
        )

    def _check(self) -> None:
        latest_ms = self._host.now_ms() + AGREE_MS
        assert NOW_MS <= self._clock.now_ms() <= latest_ms
        for symbol in SYMBOLS:
            # no minute may count as over, or as received, before its time
            assert not self._coverage.has_reached(symbol, latest_ms // MINUTE_MS * MINUTE_MS)
        assert len(self._pump._newest_event_ms) <= len(SYMBOLS)
        assert len(self._tickers._waiting) <= len(SYMBOLS)
        assert len(self._clock._spoken) <= 10_000


def binance_frames() -> list[bytes]:
    """Return generated klines near the present, a ticker frame, and recorded frames if they are available."""
    open_ms = NOW_MS - 30_000
    made = [frame(symbol, open_ms, closed=False, event_ts_ms=NOW_MS + n) for n, symbol in enumerate(SYMBOLS)]
    made += [frame(symbol, open_ms - MINUTE_MS, closed=True) for symbol in SYMBOLS]
    ticker = {"e": "24hrTicker", "E": NOW_MS, "s": "AUSDT"} | dict.fromkeys("cohlvqP", "1.5")
    made.append(orjson.dumps({"stream": "!ticker@arr", "data": [ticker, ticker | {"s": "BUSDT"}]}))
    recorded = market_data_dir() / "protocol" / "fstream_kline_frames.jsonl"
    if recorded.exists():
        lines = recorded.read_bytes().splitlines()[:60]
        made += [orjson.dumps(orjson.loads(line)["msg"]) for line in lines]
    return made


def bybit_frames() -> list[bytes]:
    open_ms = NOW_MS - 30_000
    numbers = dict.fromkeys(("open", "high", "low", "close", "volume", "turnover"), "1.5")
    frames = []
    for symbol in SYMBOLS:
        for start_ms, closed in ((open_ms, False), (open_ms - MINUTE_MS, True)):
            kline = {
                "start": start_ms,
                "end": start_ms + MINUTE_MS - 1,
                "interval": "1",
                "confirm": closed,
            } | numbers
            event_ms = NOW_MS if not closed else start_ms + MINUTE_MS
            frames.append(
                orjson.dumps(
                    {"topic": f"kline.1.{symbol}", "ts": event_ms, "type": "snapshot", "data": [kline]}
                )
            )
    return [*frames, b'{"success":true,"ret_msg":"pong","op":"ping"}']


FIRST_MS, LAST_MS = NOW_MS - 30_000 - 5 * MINUTE_MS, NOW_MS - 30_000 + 2 * MINUTE_MS


def _rows() -> list[list[Any]]:
    return [
        [at, "1.5", "1.6", "1.4", "1.5", "7", at + MINUTE_MS - 1, "10", 3, "1", "2", "0"]
        for at in range(FIRST_MS, LAST_MS + 1, MINUTE_MS)
    ]


def _bybit(result: Any) -> Any:
    return {"retCode": 0, "retMsg": "OK", "result": result, "time": NOW_MS}


FRAMES: dict[type[Venue], Callable[[], list[bytes]]] = {
    BinanceFutures: binance_frames,
    BybitLinear: bybit_frames,
}
_CONTRACT = {"contractType": "PERPETUAL", "quoteAsset": "USDT", "status": "TRADING", "onboardDate": 1}
_LINEAR = {"contractType": "LinearPerpetual", "quoteCoin": "USDT", "status": "Trading", "launchTime": "1"}
_LIMIT = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400}
_DAY = dict.fromkeys(
    ("lastPrice", "priceChangePercent", "highPrice", "lowPrice", "volume", "quoteVolume"), "1"
)
_LINEAR_DAY = dict.fromkeys(
    ("lastPrice", "price24hPcnt", "highPrice24h", "lowPrice24h", "volume24h", "turnover24h"), "1"
)
ANSWERS: dict[tuple[type[Venue], str], Callable[[], Any]] = {
    (BinanceFutures, "klines"): _rows,
    (BinanceFutures, "listings"): lambda: {
        "symbols": [_CONTRACT | {"symbol": symbol} for symbol in SYMBOLS], "rateLimits": [_LIMIT]
    },
    (BinanceFutures, "tickers"): lambda: [_DAY | {"symbol": s, "closeTime": NOW_MS} for s in SYMBOLS],
    (BinanceFutures, "time"): lambda: {"serverTime": NOW_MS},
    (BybitLinear, "klines"): lambda: _bybit({"list": [[*row[:6], "9"] for row in _rows()][::-1]}),
    (BybitLinear, "listings"): lambda: _bybit(
        {"list": [_LINEAR | {"symbol": s, "baseCoin": s[0]} for s in SYMBOLS], "nextPageCursor": ""}
    ),
    (BybitLinear, "tickers"): lambda: _bybit({"list": [_LINEAR_DAY | {"symbol": s} for s in SYMBOLS]}),
    (BybitLinear, "time"): lambda: _bybit({}),
}  # fmt: skip


async def answer(chance: random.Random, tally: Tally) -> None:
    """Pass one mutated REST answer to the code that requested it."""
    (made_by, kind), make = chance.choice(list(ANSWERS.items()))
    text = mutated(chance, orjson.dumps(make()))
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        document = None
    venue = made_by()
    tally.inputs += 1
    tally.kinds[f"{kind} of {venue.name}"] += 1

    async def get(_: Request) -> Any:
        return document

    venue.refusal(document)
    try:
        match kind:
            case "klines":
                bars = await klines_page(venue, get, "AUSDT", "1m", FIRST_MS, LAST_MS, NOW_MS)
                if bars is not None:
                    assert (
                        FIRST_MS <= bars.open_time_ms.min() <= bars.open_time_ms.max() <= NOW_MS - MINUTE_MS
                    )
                    await _Published(ManualClock(NOW_MS), venue.name).publish(bars)
            case "listings":
                with reading_answer(venue, kind):
                    found = await venue.listings(get)
                assert all(is_symbol(one.symbol) for one in found.listings)
                assert len({one.symbol for one in found.listings}) == len(found.listings)
            case "tickers":
                with reading_answer(venue, kind):
                    await venue.tickers(get)
            case "time":
                clock = ExchangeClock(ManualClock(NOW_MS))
                await TimeWatch(venue, get, clock, METRICS).ask()
                assert clock.now_ms() <= NOW_MS + AGREE_MS
    except ExchangeError as error:
        assert len(str(error)) < 2_000


def refusal(chance: random.Random, tally: Tally) -> None:
    """Check the error texts for any body that an exchange might send with any status."""
    said = chance.randbytes(chance.randint(0, 300))
    if chance.random() < 0.5:
        said = b"<html><style>x</style>" + said + b'{"code":-1003,"msg":"too many"}' * chance.randint(0, 200)
    text = shown(said)
    assert 0 < len(text) <= 200
    assert text.isprintable()
    fault = fault_of("the exchange", chance.randint(100, 999), said)
    assert len(str(fault)) < 300
    tally.inputs += 1
    tally.kinds["refusals"] += 1


def mutated_bytes(chance: random.Random, text: bytes) -> bytes:
    """Return the text with bytes changed, dropped, doubled, or cut off."""
    changed = bytearray(text)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(4):
            case 0:
                changed[at : at + 1] = chance.randbytes(1)
            case 1:
                del changed[at : at + chance.randint(1, 20)]
            case 2:
                changed[at:at] = changed[at : at + chance.randint(1, 20)]
            case _:
                del changed[at:]
    return bytes(changed)


def mutated(chance: random.Random, text: bytes) -> bytes:
    """Return the JSON with values replaced, dropped, doubled, or moved in time."""
    document = orjson.loads(text)
    for _ in range(chance.randint(1, 3)):
        document = _changed(chance, document)
    try:
        return orjson.dumps(document)
    except (orjson.JSONEncodeError, TypeError):
        return mutated_bytes(chance, text)


def _changed(chance: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        if chance.random() < 0.1:
            return {name: one for name, one in value.items() if name != key}
        return value | {key: _changed(chance, value[key])}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        if chance.random() < 0.1:
            return value[:at] + value[at + 1 :]
        if chance.random() < 0.1:
            return value + [value[at]] * chance.randint(1, 3)
        return [*value[:at], _changed(chance, value[at]), *value[at + 1 :]]
    if type(value) is int and chance.random() < 0.5:
        return value + chance.choice((-1, 1)) * chance.choice((1, MINUTE_MS, 3_600_000, value))
    return chance.choice(HOSTILE)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--inputs", type=int, default=1_000_000)
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    print(fuzz(chosen.seed, chosen.inputs))
