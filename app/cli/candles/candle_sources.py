"""Candles for commands that read them: from a file, or from the minutes that the database keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click
import numpy as np
import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from app.candle_files.reader import CandleFiles, ReadSoFar
from app.candle_files.report import FileReport
from app.candles.batch import MINUTE_MS, CandleBatch
from app.database.alert_history import AlertFilter, alerts_page
from app.database.candles.minutes import load_minutes, newest_minute, stored_symbols
from app.database.connection import connect, database_faults
from app.process.interrupts import interruptible
from app.rules.alert import Alert, alert_at
from app.settings.access import PostgresAccess

T = TypeVar("T")

_AROUND_MS = 3 * MINUTE_MS
_ALERTS_AROUND = 20
"""More than one rule can give within that time."""

BATCH_ROWS = 20_000
_QUERY_ROWS = 100_000
"""About the size of one query's result."""

Steps = Iterator[tuple[int, CandleBatch]]
"""Candles in order of time, each batch after its part of the total progress."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The candles to use. symbols: None for all. since_ms, until_ms: open times, UTC; until is exclusive; None for no
    limit."""

    symbols: tuple[str, ...] | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def of(self, batch: CandleBatch) -> CandleBatch:
        keep = np.ones(len(batch), np.bool_)
        if self.since_ms is not None:
            keep &= batch.open_time_ms >= self.since_ms
        if self.until_ms is not None:
            keep &= batch.open_time_ms < self.until_ms
        if self.symbols is not None:
            wanted = np.array([symbol in self.symbols for symbol in batch.symbols], np.bool_)
            keep &= wanted[batch.symbol_index]
        return batch if keep.all() else batch.take(keep)


@dataclass(frozen=True, slots=True)
class CandleSource:
    """total: the progress after all `steps`. file: the report of a candle file, None for the database."""

    total: int
    steps: Steps
    file: FileReport | None = None


@dataclass(frozen=True, slots=True)
class GivenFiles:
    """paths: candle files and folders of them, may be empty. skip_bad: leave out and count invalid rows."""

    paths: tuple[Path, ...]
    skip_bad: bool

    def __bool__(self) -> bool:
        return bool(self.paths)

    def name(self) -> str:
        more = len(self.paths) - 1
        return self.paths[0].name + (f" and {more:,} more" if more else "")


def from_files(given: GivenFiles, chosen: Chosen) -> CandleSource:
    """Return the chosen candles of the files, read by `candle_files`."""
    files = candle_files(given)
    steps = ((len(batch), chosen.of(batch)) for batch in files.parts(BATCH_ROWS))
    return CandleSource(len(files), steps, files.report)


def from_database(
    postgres: PostgresAccess, since_ms: int, until_ms: int, symbols: Sequence[str] | None
) -> CandleSource:
    """Return the stored candles of these symbols (None: all), in steps of minutes of time.

    Raises ServerUnreachable.
    """
    minutes = max(0, until_ms - since_ms) // MINUTE_MS
    return CandleSource(minutes, _stored_steps(postgres, since_ms, until_ms, symbols))


def _stored_steps(
    postgres: PostgresAccess, since_ms: int, until_ms: int, symbols: Sequence[str] | None
) -> Steps:
    wanted = list(symbols) if symbols is not None else asyncio.run(interruptible(_stored(postgres)))
    step_ms = max(60, _QUERY_ROWS // max(1, len(wanted))) * MINUTE_MS
    for start_ms in range(since_ms, until_ms, step_ms):
        end_ms = min(start_ms + step_ms, until_ms)
        yield (
            (end_ms - start_ms) // MINUTE_MS,
            asyncio.run(interruptible(_minutes(postgres, wanted, start_ms, end_ms))),
        )


def newest_stored(postgres: PostgresAccess, symbol: str) -> int | None:
    """Return the open time (UTC ms) of the symbol's newest stored minute; None without one. Raises
    ServerUnreachable."""
    return asyncio.run(interruptible(_asked(postgres, lambda connection: newest_minute(connection, symbol))))


def alert_stored(
    postgres: PostgresAccess, rule_type: str, symbol: str, time_ms: int
) -> tuple[Alert, int] | None:
    """Return `app.rules.alert.alert_at` of the stored alerts. Raises ServerUnreachable."""
    around = AlertFilter(
        (symbol,),
        (rule_type,),
        since_ms=max(0, time_ms - _AROUND_MS),
        until_ms=time_ms + _AROUND_MS,
        shadow=None,
    )
    page = asyncio.run(
        interruptible(_asked(postgres, lambda connection: alerts_page(connection, around, _ALERTS_AROUND)))
    )
    return alert_at(page.alerts, time_ms)


async def _stored(postgres: PostgresAccess) -> list[str]:
    return await _asked(postgres, stored_symbols)


async def _minutes(
    postgres: PostgresAccess, symbols: Sequence[str], since_ms: int, until_ms: int
) -> CandleBatch:
    return await _asked(postgres, lambda connection: load_minutes(connection, symbols, since_ms, until_ms))


async def _asked(postgres: PostgresAccess, ask: Callable[[psycopg.AsyncConnection], Awaitable[T]]) -> T:
    with database_faults(postgres):
        async with await connect(postgres) as connection:
            return await ask(connection)


def candle_files(given: GivenFiles) -> CandleFiles:
    """Return the files, open until the command ends; print the rejected rows and unusual facts to stderr. Raises
    BadInput."""
    columns = (TextColumn("reading {task.fields[candles]:,} candles"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None, candles=0)

        def tell(read: ReadSoFar) -> None:
            bar.update(task, completed=read.bytes_read, total=read.bytes_of_all, candles=read.candles)

        files = CandleFiles(given.paths, skip_bad=given.skip_bad, on_read=tell)
    click.get_current_context().call_on_close(files.close)
    for line in files.report.lines():
        click.echo(f"{given.name()}: {line}", err=True)
    return files
