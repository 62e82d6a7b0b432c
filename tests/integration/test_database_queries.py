"""The readers' queries: alert history in pages, minutes for a restarted calculator."""

from __future__ import annotations

import numpy as np
import pytest

from app.candles.batch import COLUMNS, MINUTE_MS
from app.database.alert_history import AlertFilter, alerts_page, alerts_since, latest_seq
from app.database.candles.minutes import database_history, load_minutes, load_shard_minutes, stored_symbols
from app.errors import BadInput
from app.local.servers.ports import free_port
from app.rules.alert import Alert
from app.settings import Settings
from app.sinks.copy import write_alerts, write_candles
from app.telemetry import database_metrics
from app.wire.topics import shard_of
from tests.support.database import MIDNIGHT_MS, alert, candles, migrated
from tests.support.metric_values import UNREAD

EVERYTHING = AlertFilter()


def seqs(alerts: list[Alert]) -> list[int | None]:
    return [found.seq for found in alerts]


async def test_an_alert_comes_back_as_it_was_sent_with_its_seq(settings: Settings) -> None:
    sent = alert(1, metadata={"vcp": 0.25, "rsi": None, "nested": [1, "x"]})
    async with migrated(settings) as connection:
        await write_alerts(connection, [sent])
        page = await alerts_page(connection, EVERYTHING, limit=10)
    assert page.alerts == [sent]
    assert page.next_cursor is None


async def test_pages_give_every_alert_once_newest_first(settings: Settings) -> None:
    """Alerts of one moment are many: a market moves in the same second."""
    one_moment = {"timestamp": "2023-11-15T00:00:03.000Z"}
    async with migrated(settings) as connection:
        await write_alerts(connection, [alert(n, **(one_moment if n % 2 else {})) for n in range(25)])
        whole = await alerts_page(connection, EVERYTHING, limit=1000)
        pages, cursor = [], None
        while True:
            page = await alerts_page(connection, EVERYTHING, limit=4, cursor=cursor)
            pages.append(page.alerts)
            cursor = page.next_cursor
            if cursor is None:
                break
    assert [len(page) for page in pages] == [4, 4, 4, 4, 4, 4, 1]
    assert [found for page in pages for found in page] == whole.alerts
    times = [found.timestamp for found in whole.alerts]
    assert times == sorted(times, reverse=True)
    assert sorted(seqs(whole.alerts)) == list(range(25))


async def test_pages_hold_still_while_alerts_are_inserted(settings: Settings) -> None:
    async with migrated(settings) as connection:
        await write_alerts(connection, [alert(n) for n in range(0, 20, 2)])
        first = await alerts_page(connection, EVERYTHING, limit=3)
        await write_alerts(connection, [alert(n) for n in (13, 21, 23)])
        second = await alerts_page(connection, EVERYTHING, limit=3, cursor=first.next_cursor)
        await write_alerts(connection, [alert(n) for n in (9, 25)])
        third = await alerts_page(connection, EVERYTHING, limit=10, cursor=second.next_cursor)
    assert seqs(first.alerts) == [18, 16, 14]
    assert seqs(second.alerts) == [13, 12, 10]
    assert seqs(third.alerts) == [9, 8, 6, 4, 2, 0]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (AlertFilter(symbols=["AUSDT"]), [4, 2, 0]),
        (AlertFilter(symbols=["AUSDT", "BUSDT"]), [5, 4, 3, 2, 1, 0]),
        (AlertFilter(symbols=[]), []),
        (AlertFilter(rule_types=["rise"]), [5, 4, 3]),
        (AlertFilter(severities=["high", "low"]), [5, 4, 1, 0]),
        (AlertFilter(symbols=["BUSDT"], rule_types=["rise"], severities=["high", "low"]), [5]),
        (AlertFilter(since_ms=MIDNIGHT_MS + 2_000), [5, 4, 3, 2]),
        (AlertFilter(until_ms=MIDNIGHT_MS + 2_000), [1, 0]),
        (AlertFilter(since_ms=MIDNIGHT_MS + 1_000, until_ms=MIDNIGHT_MS + 3_000), [2, 1]),
    ],
)
async def test_filters_narrow_the_page(settings: Settings, wanted: AlertFilter, expected: list[int]) -> None:
    severities = ["high", "high", "medium", "medium", "low", "low"]
    given = [
        alert(
            n,
            symbol="BUSDT" if n % 2 else "AUSDT",
            rule_type="rise" if n > 2 else "fall",
            severity=severities[n],
        )
        for n in range(6)
    ]
    async with migrated(settings) as connection:
        await write_alerts(connection, given)
        assert seqs((await alerts_page(connection, wanted, limit=100)).alerts) == expected


@pytest.mark.parametrize(
    "cursor", ["", "x", "bm90IGpzb24", "W10", "WyIyMDI0IiwgInkiXQ", "é", "W251bGwsbnVsbF0"]
)
async def test_a_cursor_that_no_page_gave_is_refused(settings: Settings, cursor: str) -> None:
    async with migrated(settings) as connection:
        with pytest.raises(BadInput) as refused:
            await alerts_page(connection, EVERYTHING, limit=1, cursor=cursor)
    assert refused.value.reason == "bad_cursor"


async def test_alerts_since_a_seq_come_in_its_order(settings: Settings) -> None:
    async with migrated(settings) as connection:
        assert await latest_seq(connection) is None
        assert await alerts_since(connection, -1, limit=5) == []
        await write_alerts(connection, [alert(n) for n in (7, 3, 9, 5)])
        assert await latest_seq(connection) == 9
        assert seqs(await alerts_since(connection, 3, limit=2)) == [5, 7]


async def test_stored_minutes_come_back_as_they_were(settings: Settings) -> None:
    batch = candles(["AUSDT", "BUSDT", "CUSDT"], 10)
    async with migrated(settings) as connection:
        await write_candles(connection, batch)
        found = await load_minutes(
            connection,
            ["AUSDT", "CUSDT", "UNKNOWN"],
            MIDNIGHT_MS + 2 * MINUTE_MS,
            MIDNIGHT_MS + 5 * MINUTE_MS,
        )
        nothing = await load_minutes(connection, ["AUSDT"], 0, MIDNIGHT_MS)
    rows = [3 * minute + symbol for minute in (2, 3, 4) for symbol in (0, 2)]
    expected = batch.take(np.array(rows))
    assert [found.symbol_of(row) for row in range(len(found))] == ["AUSDT", "CUSDT"] * 3
    for name in set(COLUMNS) - {"symbol_index"}:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        assert getattr(found, name).dtype == getattr(expected, name).dtype, name
    assert len(nothing) == 0


async def test_the_minutes_of_a_shard_are_those_of_its_symbols(settings: Settings) -> None:
    symbols = [f"S{n}USDT" for n in range(20)]
    async with migrated(settings) as connection:
        await write_candles(connection, candles(symbols, 2))
        assert await stored_symbols(connection) == sorted(symbols)
        for shard in range(3):
            found = await load_shard_minutes(connection, shard, 3, 0, 2**42)
            mine = {symbol for symbol in symbols if shard_of(symbol, 3) == shard}
            assert {found.symbol_of(row) for row in range(len(found))} == mine
            assert len(found) == 2 * len(mine)


async def test_history_is_what_the_database_has_of_the_shard(settings: Settings) -> None:
    settings = settings.model_copy(update={"partitions": 1})
    history = database_history(settings.postgres(), settings.partitions, database_metrics(UNREAD))
    async with migrated(settings) as connection:
        nothing = await history(0, 0, 2**42)
        assert nothing is not None
        assert len(nothing) == 0
        await write_candles(connection, candles(["AUSDT"], 5))
    found = await history(0, 0, MIDNIGHT_MS + 3 * MINUTE_MS)
    assert found is not None
    assert found.open_time_ms.tolist() == [MIDNIGHT_MS + minute * MINUTE_MS for minute in range(3)]


async def test_a_database_that_cannot_be_asked_gives_none(settings: Settings) -> None:
    assert (
        await database_history(settings.postgres(), settings.partitions, database_metrics(UNREAD))(
            0, 0, 2**42
        )
        is None
    )
    gone = Settings.load({}, postgres_url=f"postgresql://me@127.0.0.1:{free_port()}/market")
    assert (
        await database_history(gone.postgres(), gone.partitions, database_metrics(UNREAD))(0, 0, 2**42)
        is None
    )
