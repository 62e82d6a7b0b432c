"""`screener screen`: the symbols that satisfy an expression, now or at a minute of history."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import aiohttp
import click
import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.backtest.snapshot import market_at_the_end
from app.candles.batch import MINUTE_MS
from app.cli.candles.candle_sources import Chosen, GivenFiles, Steps, from_database, from_files
from app.cli.output import show
from app.cli.servers import settings_here
from app.errors import RuleError, ServerUnreachable
from app.market.metrics import MetricsBatch
from app.number_text import number_text
from app.process.interrupts import interruptible
from app.rules.files import together
from app.rules.language.parser import (
    condition_faults,
    number_faults,
    parse_condition,
    parse_number,
    pointer,
)
from app.rules.language.tree import Node
from app.rules.language.walks import columns_of, uses_market
from app.rules.screen import Query as ScreenQuery
from app.rules.screen import ScreenAnswer, ScreenedSymbol
from app.times import rfc3339

_TIMEOUT_S = 15.0
_DAYS_BACK = 3
"""Makes every window whole, and settles the indicators of the timeframes up to an hour."""


@dataclass(frozen=True, slots=True)
class Query:
    where: str
    sort: str | None
    order: Literal["asc", "desc"]
    limit: int

    def columns(self) -> tuple[str, ...]:
        """Return the metrics it looks at, in order of appearance. Raises RuleError that shows where each fault is."""
        faults = _shown(self.where, condition_faults(self.where))
        if self.sort is not None:
            faults += _shown(self.sort, number_faults(self.sort))
        if faults:
            raise RuleError(together(faults))
        nodes: list[Node] = [parse_condition(self.where)]
        if self.sort is not None:
            nodes.append(parse_number(self.sort))
        return tuple(dict.fromkeys(name for node in nodes for name in columns_of(node)))


def screen_command(
    where: str,
    sort: str | None,
    order: Literal["asc", "desc"],
    limit: int,
    url: str | None,
    files: tuple[Path, ...],
    skip_bad: bool,
    at_ms: int | None,
    as_json: bool,
) -> None:
    given = GivenFiles(files, skip_bad)
    query = Query(where, sort, order, limit)
    columns = query.columns()
    if url is not None and (given or at_ms is not None):
        raise click.UsageError("--url queries the present: remove --file and --at")
    if not given and at_ms is None:
        settings = settings_here()
        base = url or f"http://{settings.bind_host}:{settings.sidecar_port}"
        answer = asyncio.run(interruptible(_ask(base.rstrip("/"), query)))
    else:
        answer = _look_back(query, columns, given, at_ms)
    if as_json:
        click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(answer, Console())


def _shown(text: str, faults: Sequence[RuleError]) -> list[str]:
    return [pointer(text, fault) for fault in faults]


async def _ask(base: str, query: Query) -> ScreenAnswer:
    parameters = {"where": query.where, "limit": str(query.limit)}
    if query.sort is not None:
        parameters |= {"sort": query.sort, "order": query.order}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session,
            session.get(f"{base}/api/screener", params=parameters) as response,
        ):
            answer = orjson.loads(await response.read())
            if response.status != 200:
                raise click.ClickException(str(answer.get("message", f"{base} answered {response.status}")))
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError, ValueError) as error:
        raise ServerUnreachable(
            f"no screener answers at {base}: {error}; start one (`screener up`), set --url, or use a "
            "candle file with --file"
        ) from error
    return cast(ScreenAnswer, answer)


def _look_back(query: Query, columns: tuple[str, ...], given: GivenFiles, at_ms: int | None) -> ScreenAnswer:
    until_ms = None if at_ms is None else at_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS
    history = _history(given, until_ms)
    asked = ScreenQuery(query.where, query.sort)
    market = market_at_the_end((batch for _, batch in history), (*columns, "close_1m"), asked.see)
    if market is None or (until_ms is not None and int(market.open_time_ms[0]) != until_ms - MINUTE_MS):
        raise click.ClickException("no candle for this minute")
    rows = asked.rows(market, query.order)
    found = [_symbol(market, int(row), columns) for row in rows[: query.limit]]
    answer: ScreenAnswer = {"symbols": found, "matched": len(rows), "evaluated": len(market)}
    if any(uses_market(node) for node in asked.nodes):
        answer["market_minute"] = rfc3339(int(market.open_time_ms[0]))
    return answer


def _history(given: GivenFiles, until_ms: int | None) -> Steps:
    if given:
        return from_files(given, Chosen(until_ms=until_ms)).steps
    assert until_ms is not None
    return from_database(
        settings_here().postgres(), until_ms - _DAYS_BACK * 1440 * MINUTE_MS, until_ms, None
    ).steps


def _symbol(market: MetricsBatch, row: int, columns: tuple[str, ...]) -> ScreenedSymbol:
    values = dict(zip(market.columns, market.values[row].tolist(), strict=True))
    return {
        "symbol": market.symbol_of(row),
        "timestamp": rfc3339(int(market.event_ts_ms[row])),
        "price": values["close_1m"],
        "values": {name: value if math.isfinite(value := values[name]) else None for name in columns},
    }


def _print(answer: ScreenAnswer, console: Console) -> None:
    symbols = answer["symbols"]
    names = list(symbols[0]["values"]) if symbols else []
    table = Table("symbol", "price", *names, box=SIMPLE_HEAD)
    for found in symbols:
        numbers = [found["price"], *(found["values"][name] for name in names)]
        table.add_row(Text(found["symbol"]), *(number_text(number) for number in numbers))
    if symbols:
        show(table, console)
    console.print(f"{answer['matched']:,} of {answer['evaluated']:,} symbols", highlight=False)
