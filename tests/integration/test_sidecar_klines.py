"""Candles over a running sidecar: all intervals, ranges, volumes, and refused requests."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from app.candles.batch import CandleBatch
from app.settings import Settings
from tests.support.database import candles, store
from tests.support.sidecar import prepare, running_sidecar

MINUTE_MS = 60_000
DAY_MS = 86_400_000
START_MS = 1_709_164_800_000
"""2024-02-29 00:00 UTC, a Thursday, the last day of its month."""


@pytest.fixture(autouse=True)
async def _prepared(settings: Settings) -> None:
    await prepare(settings)


def bars(batch: CandleBatch, start_of: Any, end_of: Any, newest_ms: int) -> list[list[Any]]:
    """What /api/klines owes for one symbol's minutes, bar by bar, straight from its description."""
    rows: dict[int, list[int]] = {}
    for row, time_ms in enumerate(batch.open_time_ms.tolist()):
        rows.setdefault(start_of(time_ms), []).append(row)
    found = []
    for start_ms, members in sorted(rows.items()):
        end_ms = end_of(start_ms)
        if len(members) * MINUTE_MS != min(end_ms, newest_ms + MINUTE_MS) - start_ms:
            continue
        found.append(
            [
                start_ms,
                batch.open[members[0]],
                max(batch.high[members]),
                min(batch.low[members]),
                batch.close[members[-1]],
                sum(batch.volume[members]),
                end_ms - 1,
                sum(batch.quote_volume[members]),
                sum(batch.trades[members]),
                sum(batch.taker_buy_volume[members]),
                sum(batch.taker_buy_quote_volume[members]),
            ]
        )
    return found


def month_start(time_ms: int) -> int:
    at = datetime.fromtimestamp(time_ms / 1000, UTC)
    return int(datetime(at.year, at.month, 1, tzinfo=UTC).timestamp()) * 1000


def month_end(start_ms: int) -> int:
    at = datetime.fromtimestamp(start_ms / 1000, UTC)
    return start_ms + calendar.monthrange(at.year, at.month)[1] * DAY_MS


LENGTHS = {
    "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "8h": 480,
    "12h": 720, "1d": 1440, "3d": 4320, "1w": 10_080,
}  # fmt: skip


async def test_candles_of_all_fifteen_intervals_are_made_from_the_stored_minutes(settings):
    """Nine days over the end of a month, with one minute missing and the last bars forming."""
    whole = candles(["BTCUSDT", "ETHUSDT"], 9 * 1440 + 7, START_MS - DAY_MS)
    missing_ms = START_MS + 5 * DAY_MS + 3_333 * 1000 * 60 % DAY_MS
    stored = whole.take(np.flatnonzero(whole.open_time_ms != missing_ms))
    await store(settings, stored)
    mine = stored.take(np.flatnonzero(stored.symbol_index == 1))
    newest_ms = int(mine.open_time_ms[-1])
    async with running_sidecar(settings) as client:
        for name in [*LENGTHS, "1M"]:
            if name == "1M":
                expected = bars(mine, month_start, month_end, newest_ms)
            else:
                length_ms = LENGTHS[name] * MINUTE_MS
                origin_ms = 4 * DAY_MS if name == "1w" else 0
                expected = bars(
                    mine,
                    lambda time_ms, n=length_ms, o=origin_ms: time_ms - (time_ms - o) % n,
                    lambda start_ms, n=length_ms: start_ms + n,
                    newest_ms,
                )
            status, found = await client.get("/api/klines", symbol="ETHUSDT", interval=name, limit="1500")
            assert status == 200
            # limit counts bars of time, not bars that are whole
            last_ms = max(bar[0] for bar in expected) if expected else 0
            expected = [bar for bar in expected if last_ms - bar[0] < 1500 * LENGTHS[name] * MINUTE_MS]
            assert [bar[0] for bar in found] == [bar[0] for bar in expected], name
            for bar, wanted in zip(found, expected, strict=True):
                assert all(isinstance(bar[at], str) for at in (1, 2, 3, 4, 5, 7, 9, 10, 11)), bar
                assert [float(text) for text in bar[:11]] == pytest.approx(wanted, rel=1e-12), name
                assert bar[11] == "0"
        assert expected == [], "no month is whole"


async def test_the_range_of_candles_can_be_chosen_in_both_ways(settings):
    await store(settings, candles(["BTCUSDT"], 600, START_MS))

    async def opens(**query: str) -> list[int]:
        _, found = await client.get("/api/klines", symbol="BTCUSDT", interval="1h", **query)
        return [(bar[0] - START_MS) // 3_600_000 for bar in found]

    async with running_sidecar(settings) as client:
        assert await opens() == list(range(10))
        assert await opens(limit="3") == [7, 8, 9]
        assert await opens(since="2024-02-29T03:00:00Z", limit="2") == [3, 4]
        assert await opens(since="2024-02-29T03:00:01Z", limit="2") == [4, 5]
        assert await opens(until="2024-02-29T03:00:00Z", limit="2") == [1, 2]
        assert await opens(until="2024-02-29T03:00:01Z", limit="2") == [2, 3]
        assert await opens(since="2024-02-29T03:00:00Z", until="2024-02-29T05:00:00Z") == [3, 4]
        assert await opens(startTime=str(START_MS + 7_200_000), endTime=str(START_MS + 14_400_000)) == [
            2,
            3,
            4,
        ]
        assert await opens(since="2030-01-01T00:00:00Z") == []
        assert await opens(since="9999-12-31T23:59:59Z") == []
        assert await opens(until="1970-01-01T00:00:00Z") == []
        assert await opens(startTime="1000000000000000") == []


async def test_the_earliest_candles_are_given_from_a_time_before_all_of_them(settings):
    """As the exchange does; a first bar of which the beginning is not stored is left out, and not counted."""
    await store(settings, candles(["BTCUSDT"], 600, START_MS + 20 * MINUTE_MS))
    async with running_sidecar(settings) as client:
        _, minutes = await client.get(
            "/api/klines", symbol="BTCUSDT", interval="1m", startTime="1", limit="5"
        )
        _, hours = await client.get("/api/klines", symbol="BTCUSDT", interval="1h", startTime="1", limit="5")
    assert [bar[0] for bar in minutes] == [START_MS + (20 + n) * MINUTE_MS for n in range(5)]
    assert [bar[0] for bar in hours] == [START_MS + n * 60 * MINUTE_MS for n in range(1, 6)]


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        # 1062.8609999999999 as a sum of floating-point numbers
        ([354.287, 354.287, 354.287, 0.0, 0.0], "1062.861"),
        ([0.1, 0.2, 0.7, 1062.861, 1e-8], "1063.86100001"),
    ],
)
async def test_volumes_of_longer_candles_are_sums_of_decimals(settings, volumes, expected):
    batch = candles(["BTCUSDT"], 5, START_MS, volume=np.array(volumes), quote_volume=np.array(volumes))
    await store(settings, batch)
    async with running_sidecar(settings) as client:
        _, ((*_, volume, _, quote_volume, _, _, _, _),) = await client.get(
            "/api/klines", symbol="BTCUSDT", interval="5m"
        )
    assert (volume, quote_volume) == (expected, expected)


async def test_taker_volumes_are_0_where_one_of_a_minute_is_unknown(settings):
    batch = candles(["BTCUSDT"], 10, START_MS)
    batch.taker_buy_volume[3] = np.nan
    await store(settings, batch)
    async with running_sidecar(settings) as client:
        _, found = await client.get("/api/klines", symbol="BTCUSDT", interval="5m")
    assert found[0][9] == "0"
    assert float(found[0][10]) == pytest.approx(sum(batch.taker_buy_quote_volume[:5]))
    assert float(found[1][9]) == pytest.approx(sum(batch.taker_buy_volume[5:]))


async def test_small_and_large_values_are_written_without_exponent(settings):
    tiny = candles(["PEPEUSDT"], 1, START_MS, open=np.array([1.25e-7]), volume=np.array([1.5e18]))
    await store(settings, tiny)
    async with running_sidecar(settings) as client:
        _, found = await client.get("/api/klines", symbol="PEPEUSDT", interval="1m")
    assert (found[0][1], found[0][5]) == ("0.000000125", "1500000000000000000")


async def test_other_requests_for_candles_are_refused(settings):
    base = "/api/klines?symbol=BTCUSDT&interval="
    async with running_sidecar(settings) as client:
        await client.assert_refused(
            {
                "/api/klines?interval=1m": (400, "missing_parameter"),
                "/api/klines?symbol=BTCUSDT": (400, "missing_parameter"),
                base + "2m": (400, "bad_parameter"),
                base + "1D": (400, "bad_parameter"),
                base + "1m&limit=0": (400, "bad_parameter"),
                base + "1m&limit=1501": (400, "bad_parameter"),
                base + "1m&startTime=1&since=2024-01-01T00:00:00Z": (400, "bad_parameter"),
                base + "1m&startTime=5&endTime=3": (400, "bad_parameter"),
                base + "1m&startTime=-1": (400, "bad_parameter"),
                base + "1m&from=1": (400, "unknown_parameter"),
                "/api/klines?symbol=a%27--&interval=1m": (400, "bad_parameter"),
                base + "1m": (404, "unknown_symbol"),
            },
        )
