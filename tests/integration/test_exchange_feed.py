"""The feed against a local exchange that answers with what Binance once sent, and on a real NATS and Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import orjson
import pytest
from aiohttp import web
from nats.js.api import DiscardPolicy

from app.candles.known_minutes import Gap
from app.clock import SystemClock
from app.database.connection import connection_url
from app.database.migrate import migrate
from app.feed.history.backfill import HISTORY_MINUTES, BackfillTimes
from app.market.timeframes import TIMEFRAMES, WARMED_BY_BARS
from app.process.health.backlog import look_at
from app.settings import Settings
from app.wire.frames import decode_bars
from app.wire.gap_reports import encode_gaps
from app.wire.kafka import ensure_topics, kafka_producer
from app.wire.nats.stream import stream_name
from app.wire.redis import connect_redis
from app.wire.tickers import TickerStore
from app.wire.topics import Topics, shard_of
from tests.support.eventually import eventually
from tests.support.feeds import (
    QUICK,
    RECORDED_MINUTE_MS,
    has_forming,
    has_minutes,
    only,
    running_feed,
    speaking_to,
    started,
)
from tests.support.kline_frames import frame
from tests.support.recorded_exchange import (
    RecordedExchange,
    kline_messages,
    recorded_exchange,
    recorded_symbols,
    ticker_messages,
)
from tests.support.topic_reader import read_until

MINUTE_MS = 60_000


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[RecordedExchange]:
    await asyncio.to_thread(migrate, settings.postgres())
    async with recorded_exchange(now_ms=RECORDED_MINUTE_MS + 30_000) as running:
        yield running


async def test_recorded_frames_tickers_and_exchange_info_pass_through_the_whole_client(
    settings: Settings, exchange: RecordedExchange
):
    exchange.listed_ms = RECORDED_MINUTE_MS - 2 * MINUTE_MS
    exchange.volumes = {"BTCUSDT": 9e9, "ETHUSDT": 8e9}
    live = speaking_to(exchange, settings)
    async with running_feed(live) as running:
        await started(running, exchange)
        followed, tickers = exchange.streams()
        assert tickers == {"!ticker@arr"}
        assert len(followed) == 117
        assert "btcusdt@kline_1m" in followed
        await eventually(lambda: len(running.feed.live) == 117)
        for message in kline_messages():
            await exchange.send(message, stream="btcusdt@kline_1m")
        await exchange.send(ticker_messages()[-1], stream="!ticker@arr")

        expected = [orjson.loads(message)["data"]["k"] for message in kline_messages()]
        forming = [(k["s"], k["t"], float(k["c"])) for k in expected if not k["x"]]
        over = {(k["s"], k["t"]) for k in expected if k["x"]}
        # one that is read together with the close of its minute is left out
        lasting = sorted(one for one in forming if one[:2] not in over)
        assert len(lasting) > 100

        async def all_lasting() -> bool:
            found = await running.candles(closed=False)
            assert set(found) <= set(forming)
            return sorted(one for one in found if one[:2] not in over) == lasting

        await eventually(all_lasting)
        closed = await running.candles(closed=True)
        for kline in (k for k in expected if k["x"]):
            assert (kline["s"], kline["t"], float(kline["c"])) in closed
        singles = {subject for subject, _ in await running.messages() if subject.startswith("candles.1m.")}
        assert {f"candles.1m.{k['s']}" for k in expected if k["x"]} <= singles

        redis = connect_redis(settings.server_urls().redis)
        recorded = {one["s"]: one for one in orjson.loads(ticker_messages()[-1])}

        async def written() -> bool:
            found = {one.symbol: one for one in await TickerStore(redis, live.names()).read()}
            assert set(found) <= {one["symbol"] for one in exchange.symbols}
            day = found["BTCUSDT"].day if "BTCUSDT" in found else None
            return len(found) == 117 and day is not None and day.last_price == recorded["BTCUSDT"]["c"]

        await eventually(written)
        await redis.aclose()
    assert recorded_symbols() <= {one["symbol"] for one in exchange.symbols}


async def test_a_symbol_begins_with_a_day_of_minutes_and_the_database_need_not_be_repeated(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT", "ETHUSDT", listed_ms=0)
    newest_ms = RECORDED_MINUTE_MS - MINUTE_MS
    oldest_ms = RECORDED_MINUTE_MS - HISTORY_MINUTES * MINUTE_MS + MINUTE_MS
    await _store(
        settings, "ETHUSDT", (oldest_ms, newest_ms - 20 * MINUTE_MS), (newest_ms - 9 * MINUTE_MS, newest_ms)
    )
    async with running_feed(speaking_to(exchange, settings)) as running:
        await started(running, exchange, live=2)
        await eventually(lambda: has_minutes(running, "BTCUSDT", HISTORY_MINUTES - 1))
        assert await running.closed_minutes("BTCUSDT") == list(
            range(oldest_ms, RECORDED_MINUTE_MS, MINUTE_MS)
        )
        assert await running.closed_minutes("ETHUSDT") == list(
            range(newest_ms - 19 * MINUTE_MS, newest_ms - 9 * MINUTE_MS, MINUTE_MS)
        )


async def _store(settings: Settings, symbol: str, *runs: tuple[int, int]) -> None:
    import psycopg

    async with await psycopg.AsyncConnection.connect(connection_url(settings.postgres())) as connection:
        for first_ms, last_ms in runs:
            await connection.execute(
                "INSERT INTO candles_1m (time, symbol, open, high, low, close, volume, quote_volume, trades) "
                "SELECT t, %s, 1, 1, 1, 1, 1, 1, 1 FROM generate_series("
                "to_timestamp(%s), to_timestamp(%s), interval '1 minute') AS t",
                (symbol, first_ms / 1000, last_ms / 1000),
            )


async def test_a_minute_that_does_not_come_is_fetched_when_a_later_one_shows_that_it_is_over(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT", "ETHUSDT")
    async with running_feed(speaking_to(exchange, settings)) as running:
        await started(running, exchange, live=2)
        await exchange.send(frame("BTCUSDT", RECORDED_MINUTE_MS, closed=True))
        exchange.now_ms += MINUTE_MS
        # the time of another symbol's candle ends the minute of this one too
        later_ms = RECORDED_MINUTE_MS + MINUTE_MS
        await exchange.send(frame("BTCUSDT", later_ms, closed=False))
        await eventually(lambda: has_minutes(running, "ETHUSDT", 2))
        assert await running.closed_minutes("ETHUSDT") == [later_ms - 2 * MINUTE_MS, RECORDED_MINUTE_MS]
        assert await running.closed_minutes("BTCUSDT") == [later_ms - 2 * MINUTE_MS, RECORDED_MINUTE_MS]
        asked = [one for one in exchange.klines_asked if one["startTime"] == str(RECORDED_MINUTE_MS)]
        assert {one["symbol"] for one in asked} == {"ETHUSDT"}


@pytest.mark.parametrize("closed", [False, True])
async def test_a_frame_an_hour_ahead_closes_no_minute_and_costs_none(
    settings: Settings, exchange: RecordedExchange, closed: bool
):
    only(exchange, "BTCUSDT", "ETHUSDT")
    async with running_feed(speaking_to(exchange, settings)) as running:
        await started(running, exchange, live=2)
        await eventually(lambda: has_minutes(running, "ETHUSDT", 1))
        asked = exchange.paths.count("/fapi/v1/time")
        hour_ms = RECORDED_MINUTE_MS + 60 * MINUTE_MS
        open_ms = hour_ms if closed else RECORDED_MINUTE_MS
        await exchange.send(frame("BTCUSDT", open_ms, closed=closed, event_ts_ms=hour_ms + MINUTE_MS))
        # the exchange itself is asked, and says that no minute is over
        await eventually(lambda: exchange.paths.count("/fapi/v1/time") > asked)
        exchange.now_ms += MINUTE_MS
        later_ms = RECORDED_MINUTE_MS + MINUTE_MS
        await exchange.send(frame("ETHUSDT", later_ms, closed=False))
        for symbol in ("BTCUSDT", "ETHUSDT"):
            await eventually(lambda symbol=symbol: has_minutes(running, symbol, 2))
            assert await running.closed_minutes(symbol) == [
                RECORDED_MINUTE_MS - MINUTE_MS,
                RECORDED_MINUTE_MS,
            ]
        assert running.feed.facts()["owed_minutes"] == 0


async def test_what_the_collector_misses_is_fetched_and_published_again(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT", listed_ms=RECORDED_MINUTE_MS - 10 * MINUTE_MS)
    first_ms, last_ms = RECORDED_MINUTE_MS - 5 * MINUTE_MS, RECORDED_MINUTE_MS - 4 * MINUTE_MS
    await ensure_topics(settings.kafka())
    async with (
        running_feed(speaking_to(exchange, settings)) as running,
        kafka_producer(settings.kafka()) as producer,
    ):
        await started(running, exchange)
        await eventually(lambda: has_minutes(running, "BTCUSDT", 10))
        asked = len(exchange.klines_asked)
        topic = Topics.of(settings.names()).gaps
        await producer.send_and_wait(topic, b"not a report", partition=0)
        report = encode_gaps([Gap("BTCUSDT", first_ms, last_ms), Gap("NOSUCHUSDT", first_ms, last_ms)])
        for _ in range(2):
            await producer.send_and_wait(topic, report, partition=0)
        await eventually(lambda: len(exchange.klines_asked) > asked)
        again = exchange.klines_asked[asked]
        assert (again["startTime"], again["endTime"]) == (str(first_ms), str(last_ms))
        assert again["symbol"] == "BTCUSDT"


async def test_bars_of_long_timeframes_go_to_the_calculator_once_a_symbol_has_its_history(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT", "ETHUSDT", listed_ms=0)
    for one in exchange.symbols:
        one["onboardDate"] = RECORDED_MINUTE_MS - 5 * MINUTE_MS
    live = speaking_to(exchange, settings)
    async with running_feed(live) as running:
        await started(running, exchange)
        topic = Topics.of(settings.names()).candles
        found = await read_until(
            live, topic, lambda records: len(records) >= 2 * 5, partitions=settings.partitions
        )
        bars = [decode_bars(record.value)[:2] for record in found]
        assert {(timeframe, symbol) for timeframe, batch in bars for symbol in batch.symbols} == {
            (timeframe, symbol) for timeframe in WARMED_BY_BARS for symbol in ("BTCUSDT", "ETHUSDT")
        }
        for timeframe, batch in bars:
            length_ms = TIMEFRAMES[timeframe] * MINUTE_MS
            times = batch.open_time_ms[batch.symbol_index == 0]
            assert (np.diff(times) == length_ms).all()
            # the last one that is over
            assert times[-1] + length_ms <= exchange.now_ms < times[-1] + 2 * length_ms
            assert len(times) == 300
        assert {shard_of(batch.symbols[0], settings.partitions) for _, batch in bars} == {
            record.partition for record in found
        }


async def test_minutes_that_the_exchange_does_not_have_are_asked_for_again_and_given_up_in_the_end(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT", listed_ms=RECORDED_MINUTE_MS - 5 * MINUTE_MS)
    lost_ms = RECORDED_MINUTE_MS - 3 * MINUTE_MS
    exchange.missing.add(("BTCUSDT", lost_ms))
    async with running_feed(speaking_to(exchange, settings), times=BackfillTimes(give_up_s=0.5)) as running:
        await started(running, exchange)
        await eventually(lambda: running.feed.facts()["owed_minutes"] == 1)
        await eventually(lambda: running.feed.facts()["owed_minutes"] == 0)
        asked = [one for one in exchange.klines_asked if one["startTime"] == str(lost_ms)]
        assert len(asked) >= 1
        assert lost_ms not in await running.closed_minutes("BTCUSDT")


async def test_a_cut_connection_is_opened_again_and_nothing_is_missing(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT")
    async with running_feed(speaking_to(exchange, settings)) as running:
        await started(running, exchange)
        exchange.refuses_sockets = True
        await exchange.cut()
        await eventually(lambda: running.readiness[-1] is False)
        # two minutes end meanwhile
        exchange.now_ms += 2 * MINUTE_MS
        exchange.refuses_sockets = False
        await started(running, exchange)
        await exchange.send(frame("BTCUSDT", RECORDED_MINUTE_MS + 2 * MINUTE_MS, closed=False))
        await eventually(lambda: has_minutes(running, "BTCUSDT", 3))
        assert await running.closed_minutes("BTCUSDT") == [
            RECORDED_MINUTE_MS + n * MINUTE_MS for n in (-1, 0, 1)
        ]
        assert {fact["state"] for fact in running.feed.facts()["connections"]} == {"open"}


async def test_a_silent_connection_is_opened_again(settings: Settings, exchange: RecordedExchange):
    only(exchange, "BTCUSDT")
    patience = replace(QUICK, stale_s=0.3)
    async with running_feed(speaking_to(exchange, settings), patience=patience) as running:
        await eventually(lambda: exchange.opened >= 4)
        errors = {fact["last_error"] for fact in running.feed.facts()["connections"]}
        assert any("silent for 0.3 s" in error for error in errors)


async def test_an_old_connection_is_replaced_before_it_is_closed(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT")
    patience = replace(QUICK, lifetime_s=0.5)
    stream = "btcusdt@kline_1m"
    async with running_feed(speaking_to(exchange, settings), patience=patience) as running:
        await started(running, exchange)

        def open_now() -> int:
            return sum(stream in streams for streams in exchange.streams())

        # the second one is open, and as long as it says nothing the first one stays
        await exchange.send(frame("BTCUSDT", RECORDED_MINUTE_MS, closed=False))
        await eventually(lambda: open_now() == 2)
        first, second = [socket for socket, streams in exchange.sockets if stream in streams]
        event_ms = RECORDED_MINUTE_MS + 40_000
        await first.send_str(
            frame("BTCUSDT", RECORDED_MINUTE_MS, closed=False, event_ts_ms=event_ms).decode()
        )
        await eventually(lambda: has_forming(running, 2))
        assert open_now() == 2
        await second.send_str(
            frame("BTCUSDT", RECORDED_MINUTE_MS, closed=False, event_ts_ms=event_ms + 1).decode()
        )
        await eventually(lambda: first.closed)
        assert not second.closed
        await eventually(lambda: has_forming(running, 3))
        assert False not in running.readiness
        assert {fact["reconnects"] for fact in running.feed.facts()["connections"]} == {0}


async def test_forming_candles_that_come_out_of_order_are_left_out(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT")
    async with running_feed(speaking_to(exchange, settings)) as running:
        await started(running, exchange)
        for event_ms, close in ((30_000, "10"), (29_000, "11"), (31_000, "9.5")):
            await exchange.send(
                frame(
                    "BTCUSDT",
                    RECORDED_MINUTE_MS,
                    closed=False,
                    close=close,
                    event_ts_ms=RECORDED_MINUTE_MS + event_ms,
                )
            )
        await eventually(lambda: has_forming(running, 2))
        assert [close for _, _, close in await running.candles(closed=False)] == [10.0, 9.5]


async def test_frames_that_cannot_be_read_go_to_the_bridge_and_the_stream_goes_on(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT")
    async with running_feed(speaking_to(exchange, settings)) as running:
        await started(running, exchange)
        await exchange.send(b"certainly no JSON", stream="btcusdt@kline_1m")
        await exchange.send(frame("BTCUSDT", RECORDED_MINUTE_MS, closed=False))
        await eventually(lambda: has_forming(running, 1))
        invalid = [(s, data) for s, data in await running.messages() if "invalid-" in s]
        assert [data for _, data in invalid] == [b"certainly no JSON"]


@pytest.mark.parametrize("status", [429, 418])
async def test_a_pause_that_the_exchange_asks_for_is_kept(
    settings: Settings, exchange: RecordedExchange, status: int
):
    only(exchange, "BTCUSDT")
    exchange.faults = [web.Response(status=status, headers={"Retry-After": "1"})]
    async with running_feed(speaking_to(exchange, settings)) as running:
        await eventually(lambda: has_minutes(running, "BTCUSDT", 1))
    asked = list(zip(exchange.paths, exchange.asked_at_s, strict=True))
    refused_s = next(at_s for path, at_s in asked if path == "/fapi/v1/klines")
    during = [
        path for path, at_s in asked if path.startswith("/fapi/") and refused_s < at_s < refused_s + 0.7
    ]
    # one may have been on its way when the exchange asked for the pause
    assert len(during) <= 1, during


async def test_failures_of_the_exchange_are_repeated_until_it_answers(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT")
    exchange.faults = [
        web.Response(status=503),
        web.Response(text="no JSON"),
        web.Response(text='[["so", "not"]]'),
    ]
    async with running_feed(speaking_to(exchange, settings)) as running:
        await eventually(lambda: has_minutes(running, "BTCUSDT", 1))
        assert exchange.faults == []


async def test_a_feed_whose_sockets_are_open_says_that_nats_takes_nothing_of_it(
    settings: Settings, exchange: RecordedExchange
):
    only(exchange, "BTCUSDT")
    async with running_feed(speaking_to(exchange, settings)) as running:
        await started(running, exchange, live=1)
        jetstream = running.client.jetstream()
        await eventually(lambda: running.feed.position[0] == running.feed.position[1] > 0)
        look = look_at(lambda: running.feed.position, SystemClock())
        assert look().count == 0
        config = (await jetstream.stream_info(stream_name(settings.names()))).config
        full = replace(config, max_bytes=1, discard=DiscardPolicy.NEW)
        await jetstream.update_stream(full)
        await exchange.send(frame("BTCUSDT", RECORDED_MINUTE_MS, closed=False))
        await eventually(lambda: look().still_since_ms)
        assert running.feed.ready
        await jetstream.update_stream(config)
        await eventually(lambda: look().count == 0)
        assert look().handled_ms is not None
