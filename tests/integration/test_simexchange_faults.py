"""Every fault on command can be observed by a client, and is counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from app.errors import SettingsError
from app.local.exchange.faults.kinds import KINDS
from app.local.exchange.faults.schedule import read_schedule
from tests.support.eventually import eventually
from tests.support.sim_exchange import MINUTE_MS, NOON_MS, Client, Listener, sim_exchange

STREAMS = ("btcusdt@kline_1m", "ethusdt@kline_1m", "solusdt@kline_1m")


@pytest.fixture
async def exchange() -> AsyncIterator[Client]:
    async with sim_exchange() as client:
        yield client


async def befallen(exchange: Client, kind: str) -> int:
    counted: int = (await exchange.state())["faults"][kind]["befallen"]
    return counted


async def minutes_later(exchange: Client, listener: Listener, closed: int) -> None:
    """One minute later, when the listener has heard of as many closed candles."""
    await exchange.next_minute()
    await listener.until(lambda found: len(found.closed()) == closed)


async def test_dropped_connections_end_without_a_close_frame(exchange: Client):
    one, other = await exchange.listen(STREAMS[0]), await exchange.listen(STREAMS[1])
    assert (await exchange.fault(kind="drop", share=0.5))["hit"] == {"connections": 1}
    await eventually(lambda: one.close_code or other.close_code)
    assert {one.close_code, other.close_code} == {1006, None}
    await exchange.fault(kind="drop")
    await eventually(lambda: one.close_code == other.close_code == 1006)
    assert await befallen(exchange, "drop") == 2


async def test_the_day_cut_closes_connections_properly(exchange: Client):
    listener = await exchange.listen(*STREAMS)
    await exchange.fault(kind="day_cut")
    await listener.until(lambda found: found.close_code == 1001)
    again = await exchange.listen(*STREAMS)
    await again.until(lambda found: found.klines)


async def test_a_stalled_connection_stays_open_and_says_nothing_until_it_is_over(exchange: Client):
    stalled = await exchange.listen(STREAMS[0])
    await stalled.until(lambda found: found.klines)
    await exchange.fault(kind="stall", for_s=600)
    other = await exchange.listen(STREAMS[0])
    seen = len(stalled.texts)
    await other.until(lambda found: len(found.texts) > 5)
    await stalled.socket.ping()
    await exchange.next_minute()
    await other.until(lambda found: found.closed())
    assert (len(stalled.texts), stalled.close_code) == (seen, None)
    assert [one["stalled"] for one in (await exchange.state())["connections"]] == [True, False]
    assert await exchange.end_faults() == 1
    await stalled.until(lambda found: len(found.texts) > seen)
    assert not stalled.closed()


async def test_garbage_comes_between_the_candles(exchange: Client):
    listener = await exchange.listen(STREAMS[0])
    await listener.until(lambda found: found.klines)
    await exchange.fault(kind="garbage", frames=5)
    await listener.until(lambda found: sum('"k":' not in text for text in found.texts) == 5)
    seen = len(listener.texts)
    await listener.until(lambda found: len(found.texts) > seen)


async def test_garbage_that_is_no_text_ends_the_connection(exchange: Client):
    listener = await exchange.listen(STREAMS[0])
    await exchange.fault(kind="garbage", utf8=False)
    await listener.until(lambda found: found.close_code == 1007)


async def test_new_connections_are_refused_while_that_lasts(exchange: Client):
    await exchange.fault(kind="refuse_connections", for_s=600)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await exchange.session.ws_connect(exchange.url + "/ws")
    assert refused.value.status == 503
    assert await befallen(exchange, "refuse_connections") == 1
    assert await exchange.end_faults() == 1
    await exchange.listen(path="/ws")


@pytest.mark.parametrize("status", [429, 418])
async def test_rest_refuses_with_a_time_to_come_back(exchange: Client, status: int):
    await exchange.fault(kind="too_many_requests", status=status, for_s=600)
    async with exchange.session.get(exchange.url + "/fapi/v1/time") as answer:
        assert answer.status == status
        assert 500 < int(answer.headers["Retry-After"]) <= 600
        assert (await answer.json())["code"] == -1003
    assert await befallen(exchange, "too_many_requests") == 1


async def test_rest_fails_for_a_share_of_the_requests(exchange: Client):
    await exchange.fault(kind="server_errors", status=502, share=0.5, for_s=600)
    statuses = []
    for _ in range(40):
        async with exchange.session.get(exchange.url + "/fapi/v1/time") as answer:
            statuses.append(answer.status)
    counted = Counter(statuses)
    assert set(counted) == {200, 502}
    assert await befallen(exchange, "server_errors") == counted[502]


async def test_a_slow_rest_answers_late(exchange: Client):
    await exchange.fault(kind="slow_rest", delay_s=60, for_s=600)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await exchange.get("/fapi/v1/time")
    assert await exchange.end_faults() == 1
    assert await exchange.get("/fapi/v1/ping") == {}


async def test_a_gap_is_silent_over_websocket_and_whole_over_rest(exchange: Client):
    listener = await exchange.listen(*STREAMS)
    hit = (await exchange.fault(kind="gap", minutes=2, symbols=["ETHUSDT"]))["hit"]
    assert hit == {
        "contracts": 1,
        "first_minute": NOON_MS // MINUTE_MS,
        "end_minute": NOON_MS // MINUTE_MS + 2,
    }
    for closed in (2, 4, 7):
        await minutes_later(exchange, listener, closed)
    assert [kline["t"] for kline in listener.closed("ETHUSDT")] == [NOON_MS + 2 * MINUTE_MS]
    rows = await exchange.klines("ETHUSDT", startTime=NOON_MS, endTime=NOON_MS + 2 * MINUTE_MS)
    assert [row[0] for row in rows] == [NOON_MS + number * MINUTE_MS for number in range(3)]
    assert await befallen(exchange, "gap") == 2


async def test_late_candles_come_after_the_next_minute_has_begun(exchange: Client):
    listener = await exchange.listen(STREAMS[0])
    await exchange.fault(kind="late", delay_s=0.5)
    await exchange.next_minute()
    await listener.until(lambda found: found.closed())
    order = [(kline["t"], kline["x"]) for kline in listener.klines]
    assert order.index((NOON_MS + MINUTE_MS, False)) < order.index((NOON_MS, True))
    await minutes_later(exchange, listener, 2)


async def test_duplicates_are_the_same_candle_twice(exchange: Client):
    listener = await exchange.listen(STREAMS[0])
    await exchange.fault(kind="duplicate", minutes=1)
    await minutes_later(exchange, listener, 2)
    first, second = listener.closed()
    assert first == second
    await minutes_later(exchange, listener, 3)


async def test_out_of_order_candles_close_after_the_next_began_and_a_stale_one_follows(exchange: Client):
    listener = await exchange.listen(STREAMS[0])
    await exchange.fault(kind="out_of_order")
    await exchange.next_minute()
    await listener.until(lambda found: found.closed())
    await listener.until(
        lambda found: [k["x"] for k in found.klines if k["t"] == NOON_MS][-2:] == [True, False]
    )
    order = [(kline["t"], kline["x"]) for kline in listener.klines]
    assert order.index((NOON_MS + MINUTE_MS, False)) < order.index((NOON_MS, True))


async def test_a_correction_is_a_wrong_candle_and_then_the_one_that_rest_has(exchange: Client):
    listener = await exchange.listen(STREAMS[0])
    await exchange.fault(kind="correction", after_s=0.1)
    await minutes_later(exchange, listener, 2)
    wrong, right = listener.closed()
    assert wrong["c"] != right["c"]
    assert float(wrong["v"]) < float(right["v"])
    assert float(wrong["l"]) <= float(wrong["c"]) <= float(wrong["h"])
    ((*_, _, _, close, volume, _, _, _, _, _, _),) = await exchange.klines(
        "BTCUSDT", startTime=NOON_MS, endTime=NOON_MS
    )
    assert (right["c"], right["v"]) == (close, volume)


async def test_a_new_contract_is_listed_and_traded_from_the_next_minute(exchange: Client):
    (symbol,) = (await exchange.fault(kind="listing"))["hit"]["symbols"]

    async def entry() -> Any:
        info = await exchange.get("/fapi/v1/exchangeInfo")
        return next(found for found in info["symbols"] if found["symbol"] == symbol)

    assert (await entry())["status"] == "PENDING_TRADING"
    assert await exchange.klines(symbol) == []
    await exchange.next_minute()
    assert (await entry())["status"] == "TRADING"
    assert (await entry())["onboardDate"] == NOON_MS + MINUTE_MS
    listener = await exchange.listen(f"{symbol.lower()}@kline_1m")
    await exchange.next_minute()
    await listener.until(lambda found: found.closed(symbol))
    assert [row[0] for row in await exchange.klines(symbol)] == [NOON_MS + MINUTE_MS, NOON_MS + 2 * MINUTE_MS]
    assert [row[0] for row in await exchange.klines(symbol, "1h")] == [NOON_MS]
    ticker = await exchange.get("/fapi/v1/ticker/24hr", symbol=symbol)
    first = (await exchange.klines(symbol))[0]
    assert ticker["openPrice"] == first[1]


async def test_a_delisted_contract_falls_silent_and_keeps_its_history(exchange: Client):
    listener = await exchange.listen(*STREAMS)
    assert (await exchange.fault(kind="delisting", symbols=["SOLUSDT"]))["hit"] == {"symbols": ["SOLUSDT"]}
    await minutes_later(exchange, listener, 3)
    await minutes_later(exchange, listener, 5)
    assert [kline["t"] for kline in listener.closed("SOLUSDT")] == [NOON_MS]
    info = await exchange.get("/fapi/v1/exchangeInfo")
    assert {entry["symbol"] for entry in info["symbols"] if entry["status"] == "SETTLING"} == {"SOLUSDT"}
    assert (await exchange.klines("SOLUSDT", limit=1))[0][0] == NOON_MS
    assert "SOLUSDT" not in [ticker["symbol"] for ticker in await exchange.get("/fapi/v1/ticker/24hr")]


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"kind": "earthquake"}, 400),
        ({"kind": "drop", "share": 2}, 400),
        ({"kind": "drop", "colour": "red"}, 400),
        ({"kind": "gap", "symbols": ["NOSUCHUSDT"]}, 409),
        ({"kind": "delisting", "symbols": ["NOSUCHUSDT"]}, 409),
    ],
)
async def test_a_fault_that_cannot_be_is_refused_with_the_reason(
    exchange: Client, fault: dict[str, object], status: int
):
    async with exchange.session.post(exchange.url + "/sim/faults", json=fault) as answer:
        assert answer.status == status
        body = await answer.json()
    assert body.get("problems") or "NOSUCHUSDT" in body["message"]
    assert sum(counted["commanded"] for counted in (await exchange.state())["faults"].values()) == 0


async def test_faults_under_way_are_listed(exchange: Client):
    await exchange.fault(kind="slow_rest", delay_s=0, for_s=600)
    await exchange.fault(kind="gap", minutes=3, share=0.5)
    listed = await exchange.get("/sim/faults")
    assert [fault["kind"] for fault in listed["under_way"]] == ["slow_rest", "gap"]
    assert set(listed["faults"]) == set(KINDS)


async def test_a_schedule_brings_faults_by_itself(tmp_path: Path):
    path = tmp_path / "faults.yaml"
    path.write_text(
        "- {at_s: 0, every_s: 0.1, times: 3, fault: {kind: garbage, frames: 2}}\n"
        "- {at_s: 0.1, fault: {kind: delisting, symbols: [NOSUCHUSDT]}}\n"
        "- at_s: 0.2\n  fault:\n    kind: too_many_requests\n    status: 418\n    for_s: 600\n"
    )
    async with sim_exchange(schedule=read_schedule(path)) as exchange:
        await eventually(lambda: exchange.simulated.faults.commanded["garbage"] == 3)
        await eventually(lambda: exchange.simulated.faults.commanded["too_many_requests"] == 1)
        assert (await exchange.get("/fapi/v1/time"))["code"] == -1003


@pytest.mark.parametrize(
    "text", ["- {at_s: 1}", "- {at_s: 1, fault: {kind: no}}", "{", "- {at_s: -1, fault: {kind: drop}}"]
)
def test_a_bad_schedule_is_refused_by_name(tmp_path: Path, text: str):
    path = tmp_path / "faults.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"faults\.yaml"):
        read_schedule(path)
