"""`screener screen`: the symbols that satisfy an expression, now or at a minute of history."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
import click
import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.backtest.moment import market_at_the_end
from app.candles.batch import MINUTE_MS
from app.cli.history import Chosen, Moment, Steps, from_database, from_file
from app.cli.settings_here import settings_here
from app.errors import RuleError, ServerUnreachable
from app.market.metrics import MetricsBatch
from app.rules.alert import rfc3339
from app.rules.parser import parse_condition, parse_number, pointer
from app.rules.screen import screen
from app.rules.tree import Node, columns_of

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_TIMEOUT_S = 15.0
_DAYS_BACK = 3
"""Makes every window whole, and settles the indicators of the timeframes up to an hour."""

Answer = Mapping[str, Any]
"""As GET /api/screener gives it."""


@dataclass(frozen=True, slots=True)
class Query:
    where: str
    sort: str | None
    order: Literal["asc", "desc"]
    limit: int

    def columns(self) -> tuple[str, ...]:
        """The metrics it looks at, in order of appearance. Raises RuleError that shows where the fault is."""
        nodes = [_parsed(self.where, parse_condition)]
        if self.sort is not None:
            nodes.append(_parsed(self.sort, parse_number))
        return tuple(dict.fromkeys(name for node in nodes for name in columns_of(node)))


@click.command("screen")
@click.argument("where")
@click.option("--sort", help="A number to sort by, such as volume_1h.")
@click.option("--order", type=click.Choice(["asc", "desc"]), default="desc", show_default=True)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Most symbols shown."
)
@click.option("--url", help="Of the sidecar to ask [default: the one of the settings].")
@click.option("--file", type=_FILE, help="Ask a candle file instead, at its last minute or --at.")
@click.option(
    "--at", "at_ms", type=Moment(), help="Any time within a minute of the stored history, or of --file."
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def screen_command(
    where: str,
    sort: str | None,
    order: Literal["asc", "desc"],
    limit: int,
    url: str | None,
    file: Path | None,
    at_ms: int | None,
    as_json: bool,
) -> None:
    """Symbols whose metrics satisfy WHERE, such as 'price_change_1h > 2 and rsi_14_15m < 70'.

    Asks a running screener for its latest values; with --at its database, with --file a candle file.
    """
    query = Query(where, sort, order, limit)
    columns = query.columns()
    if url is not None and (file is not None or at_ms is not None):
        raise click.UsageError("--url asks for the present: leave out --file and --at")
    if file is None and at_ms is None:
        settings = settings_here()
        base = url or f"http://{settings.bind_host}:{settings.sidecar_port}"
        answer = asyncio.run(_ask(base.rstrip("/"), query))
    else:
        answer = _look_back(query, columns, file, at_ms)
    if as_json:
        click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(answer, Console())


def _parsed(text: str, parse: Any) -> Node:
    try:
        node: Node = parse(text, universe=True)
    except RuleError as error:
        raise RuleError(pointer(text, error), error.position) from None
    return node


async def _ask(base: str, query: Query) -> Answer:
    parameters = {"where": query.where, "limit": str(query.limit)}
    if query.sort is not None:
        parameters |= {"sort": query.sort, "order": query.order}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session,
            session.get(f"{base}/api/screener", params=parameters) as response,
        ):
            answer: Answer = orjson.loads(await response.read())
            if response.status != 200:
                raise click.ClickException(str(answer.get("message", f"{base} answered {response.status}")))
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError, ValueError) as error:
        raise ServerUnreachable(
            f"no screener answers at {base}: {error}; start one (`screener up`), name it with --url, or ask a "
            "candle file with --file"
        ) from error
    return answer


def _look_back(query: Query, columns: tuple[str, ...], file: Path | None, at_ms: int | None) -> Answer:
    until_ms = None if at_ms is None else at_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS
    history = _history(file, until_ms)
    market = market_at_the_end((batch for _, batch in history), (*columns, "close_1m"))
    if market is None or (until_ms is not None and int(market.open_time_ms[0]) != until_ms - MINUTE_MS):
        raise click.ClickException("there is not one candle of that minute")
    rows = screen(market, query.where, query.sort, query.order)
    found = [_symbol(market, int(row), columns) for row in rows[: query.limit]]
    return {"symbols": found, "matched": len(rows), "evaluated": len(market)}


def _history(file: Path | None, until_ms: int | None) -> Steps:
    if file is not None:
        return from_file(file, Chosen(until_ms=until_ms))[1]
    assert until_ms is not None
    return from_database(settings_here(), until_ms - _DAYS_BACK * 1440 * MINUTE_MS, until_ms, None)[1]


def _symbol(market: MetricsBatch, row: int, columns: tuple[str, ...]) -> dict[str, Any]:
    values = dict(zip(market.columns, market.values[row].tolist(), strict=True))
    return {
        "symbol": market.symbol_of(row),
        "timestamp": rfc3339(int(market.event_ts_ms[row])),
        "price": values["close_1m"],
        "values": {name: value if math.isfinite(value := values[name]) else None for name in columns},
    }


def _print(answer: Answer, console: Console) -> None:
    symbols = answer["symbols"]
    names = list(symbols[0]["values"]) if symbols else []
    table = Table("symbol", "price", *names, box=SIMPLE_HEAD)
    for found in symbols:
        numbers = [found["price"], *(found["values"][name] for name in names)]
        table.add_row(
            Text(found["symbol"]), *("–" if number is None else f"{number:,.6g}" for number in numbers)
        )
    if symbols:
        console.print(table)
    console.print(f"{answer['matched']:,} of {answer['evaluated']:,} symbols", highlight=False)
