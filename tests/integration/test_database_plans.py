"""A query costs the same whether a month or a year of history is stored: by its plans, and by the pages it reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection, AsyncCursor, sql
from psycopg.rows import tuple_row

from app.candles.intervals import DAY_MS, INTERVALS
from app.database.alert_history import AlertFilter, alerts_page, alerts_since, last_fires, latest_seq
from app.database.candles.klines import klines
from app.database.candles.minutes import load_minutes, newest_minute, stored_symbols
from app.database.candles.stored_bars import load_bars
from app.database.named_queries import named_queries
from app.settings import Settings
from app.sinks.copy import write_candles
from app.sinks.retention import Kept, delete_older, delete_older_bars, watch_storage
from app.telemetry import retention_metrics
from tests.support.database import MIDNIGHT_MS, candles, migrated, moment
from tests.support.eventually import eventually

SYMBOLS = [f"S{number:03}USDT" for number in range(200)]
MONTH_DAYS, YEAR_DAYS = 30, 365
BARS = ("candles_5m", "candles_15m", "candles_1h", "candles_4h", "candles_1d")
HUGE = ("candles_1m", "metrics_calculated", "alert_history", *BARS)
# Six minutes of a day stand for 1,440: what grows with the days grows all the same.
FILL = """
    CREATE TEMP TABLE minutes AS
    SELECT time, symbol
    FROM generate_series(%(first)s::timestamptz, %(last)s::timestamptz, interval '4 hours') AS time,
         unnest(%(symbols)s::text[]) AS symbol
    ORDER BY time;
    CREATE TEMP TABLE twice AS SELECT * FROM minutes WHERE date_part('hour', time) IN (8, 20) ORDER BY time;
    INSERT INTO candles_1m SELECT time, symbol, 1, 2, 0.5, 1.5, 10, 20, 3, 5, 10 FROM minutes;
    INSERT INTO candles_5m SELECT time, symbol, 1, 2, 0.5, 1.5, 10, 20, 3, 5, 10, 5, 31 FROM twice;
    INSERT INTO candles_15m SELECT time, symbol, 1, 2, 0.5, 1.5, 10, 20, 3, 5, 10, 15 FROM twice;
    INSERT INTO candles_1h SELECT time, symbol, 1, 2, 0.5, 1.5, 10, 20, 3, 5, 10, 60 FROM twice;
    INSERT INTO candles_4h SELECT time, symbol, 1, 2, 0.5, 1.5, 10, 20, 3, 5, 10, 240 FROM minutes;
    INSERT INTO candles_1d SELECT date_trunc('day', time), symbol, 1, 2, 0.5, 1.5, 10, 20, 3, 5, 10, 1440 FROM minutes
        GROUP BY 1, 2 ORDER BY 1;
    INSERT INTO metrics_calculated (time, symbol, timeframe) SELECT time, symbol, '1m' FROM minutes;
    INSERT INTO candle_symbols
        SELECT symbol, max(time)::date, max(time) + interval '1 minute' FROM minutes GROUP BY symbol;
    INSERT INTO alert_history
        (id, time, seq, symbol, rule_type, rule_version, severity, description, price, metadata, timings)
    SELECT gen_random_uuid(), time, row_number() OVER (), symbol, 'rule_' || n %% 12, 1,
           (ARRAY['high', 'medium', 'low'])[n %% 3 + 1], '', 1, '{}', '{}'
    FROM (SELECT *, row_number() OVER () AS n FROM minutes) AS m WHERE n %% 5 = 0;
    DROP TABLE minutes, twice
"""

SHOWN = retention_metrics(CollectorRegistry())

Ask = Callable[[AsyncConnection], Awaitable[Any]]
NEWEST_MS = MIDNIGHT_MS + 20 * 3_600_000
"""The last of the stored minutes."""
SINCE_MS = NEWEST_MS - 2 * DAY_MS
TWO_DAYS = {"symbols": SYMBOLS, "since": moment(SINCE_MS), "until": moment(NEWEST_MS)}


async def minute_runs(connection: AsyncConnection) -> None:
    await connection.execute(named_queries("reads.sql")["minute_runs"], TWO_DAYS)


@dataclass(frozen=True)
class Question:
    ask: Ask
    lookups: int = 8
    """Rows or symbols that are looked up one by one, at five pages each. Of a month the planner may read a few ranges
    of time instead. Of more history it asks the index on (symbol, time) once for each symbol, for example whether rows
    have expired, which costs the same for any number of years."""


async def another_minute(connection: AsyncConnection) -> None:
    """It ends the bars that form, of all symbols."""
    await write_candles(connection, candles(SYMBOLS, 1, NEWEST_MS + 5 * 3_600_000))


QUESTIONS: Mapping[str, Question] = {
    "the newest bars": Question(lambda c: klines(c, SYMBOLS[5], INTERVALS["4h"], 100)),
    "the newest minutes": Question(lambda c: klines(c, SYMBOLS[5], INTERVALS["1m"], 100)),
    "days, which form": Question(lambda c: klines(c, SYMBOLS[5], INTERVALS["1d"], 20)),
    "a deletion of bars that finds nothing": Question(
        lambda c: delete_older_bars(c, MIDNIGHT_MS - 400 * DAY_MS), len(SYMBOLS) * len(BARS)
    ),
    "bars since a time": Question(
        lambda c: klines(c, SYMBOLS[5], INTERVALS["4h"], 100, SINCE_MS - 20 * DAY_MS)
    ),
    "two days of all symbols": Question(
        lambda c: load_minutes(c, SYMBOLS, SINCE_MS, NEWEST_MS), len(SYMBOLS)
    ),
    "bars for the start of a calculator": Question(
        lambda c: load_bars(c, "1h", SYMBOLS, NEWEST_MS), len(SYMBOLS)
    ),
    "runs of stored minutes": Question(minute_runs, len(SYMBOLS)),
    "the symbols": Question(stored_symbols),
    "the newest minute": Question(lambda c: newest_minute(c, SYMBOLS[5])),
    "a deletion that finds nothing": Question(
        lambda c: delete_older(c, MIDNIGHT_MS - 400 * DAY_MS), len(SYMBOLS) * 2
    ),
    "a look for expired rows": Question(
        lambda c: watch_storage(c, SHOWN, Kept(400 * 24, 400), NEWEST_MS), len(SYMBOLS) * (2 + len(BARS))
    ),
    "a page of alerts": Question(lambda c: alerts_page(c, AlertFilter(), 100)),
    "alerts of a symbol": Question(lambda c: alerts_page(c, AlertFilter(symbols=[SYMBOLS[0]]), 20)),
    "alerts of a rule": Question(lambda c: alerts_page(c, AlertFilter(rule_types=["rule_5"]), 20)),
    "alerts of a severity": Question(lambda c: alerts_page(c, AlertFilter(severities=["low"]), 20)),
    "alerts after a seq": Question(lambda c: alerts_since(c, 1000, 100)),
    "the last seq": Question(latest_seq),
    "a minute of all symbols": Question(another_minute, len(SYMBOLS)),
    "the last fires": Question(lambda c: last_fires(c, NEWEST_MS - DAY_MS, NEWEST_MS, "close"), 20),
}


@dataclass
class Cost:
    pages: int = 0
    sequential: list[str] = field(default_factory=list)
    """Tables that were read from one end to the other."""

    def add(self, plan: dict[str, Any]) -> None:
        self.pages += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        self.sequential += [
            node["Relation Name"]
            for node in nodes(plan)
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in HUGE
        ]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


class ExplainingCursor(AsyncCursor[Any]):
    """Executes each statement twice, the first time to learn what it costs."""

    cost = Cost()

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        plain = query if isinstance(query, sql.Composable) else sql.SQL(query)
        wanted, self.row_factory = self.row_factory, tuple_row
        await super().execute(
            sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ") + plain, params, prepare=False, binary=False
        )
        row = await self.fetchone()
        assert row is not None
        ExplainingCursor.cost.add(row[0][0]["Plan"])
        self.row_factory = wanted
        return await super().execute(query, params, **options)


async def all_are_visible(connection: AsyncConnection) -> bool:
    """Vacuum the tables; return whether all pages are marked as visible to everyone, so that an index alone answers.
    While another transaction runs, autovacuum's too, pages with newer rows are not."""
    await connection.execute(f"VACUUM (ANALYZE) {', '.join(HUGE)}, candle_symbols".encode())
    found = await connection.execute(
        "SELECT bool_and(relallvisible >= relpages) FROM pg_class WHERE oid = ANY (%s::regclass[])",
        (list(HUGE),),
    )
    return await found.fetchone() == (True,)


async def costs(settings: Settings, days: int) -> dict[str, Cost]:
    """What each question costs when the minutes of so many days are stored."""
    found = {}
    async with migrated(settings) as connection:
        given = {"first": moment(NEWEST_MS - days * DAY_MS), "last": moment(NEWEST_MS), "symbols": SYMBOLS}
        await connection.execute("SET statement_timeout = 0")
        for statement in FILL.split(";\n"):
            await connection.execute(statement.encode(), given)
        await eventually(partial(all_are_visible, connection), of_work=True)
        connection.cursor_factory = ExplainingCursor
        for name, question in QUESTIONS.items():
            ExplainingCursor.cost = found[name] = Cost()
            await question.ask(connection)
    return found


@pytest.mark.timeout(300)
async def test_no_query_costs_more_when_more_history_is_kept(settings: Settings) -> None:
    month = await costs(settings, MONTH_DAYS)
    year = await costs(settings.model_copy(update={"namespace": f"{settings.namespace}_year"}), YEAR_DAYS)
    assert {name: cost.sequential for name, cost in year.items() if cost.sequential} == {}
    grown = {
        name: (month[name].pages, year[name].pages)
        for name, question in QUESTIONS.items()
        if year[name].pages > 1.5 * month[name].pages + 5 * question.lookups
    }
    assert grown == {}
