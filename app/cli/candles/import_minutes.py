"""`screener import`: the minutes of candle files into the database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.candle_files.reader import CandleFiles
from app.cli.candles.candle_sources import BATCH_ROWS, GivenFiles, candle_files
from app.cli.servers import settings_here
from app.clock import SystemClock
from app.database.connection import connect, database_faults
from app.errors import BadInput
from app.process.interrupts import interruptible
from app.settings.access import PostgresAccess
from app.sinks.copy import write_candles

_HOUR_MS = 3_600_000


def import_minutes(files: tuple[Path, ...], skip_bad: bool) -> None:
    settings = settings_here()
    given = GivenFiles(files, skip_bad)
    candles = candle_files(given)
    if candles.exchange_named not in (None, settings.exchange):
        raise BadInput(
            "other_exchange",
            f"{given.name()} has candles of {candles.exchange_named}, this screener those of {settings.exchange}",
        )
    kept_from_ms = (
        SystemClock().now_ms() - settings.retention_hours * _HOUR_MS if settings.retention_hours else 0
    )
    stored, old = asyncio.run(interruptible(_store(settings.postgres(), candles, kept_from_ms)))
    click.echo(f"{stored:,} minutes of {len(candles.symbols):,} symbols stored")
    if old:
        click.echo(
            f"{old:,} of them are older than SCREENER_RETENTION_HOURS={settings.retention_hours}: the sinks will "
            "delete them; set it higher, or 0 to keep everything",
            err=True,
        )


async def _store(postgres: PostgresAccess, candles: CandleFiles, kept_from_ms: int) -> tuple[int, int]:
    """Return how many minutes were stored, and how many of them are older than `kept_from_ms` (UTC ms)."""
    stored = old = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar, database_faults(postgres):
        task = bar.add_task("storing", total=len(candles))
        async with await connect(postgres) as connection:
            for part in candles.parts(BATCH_ROWS):
                stored += await write_candles(connection, part)
                old += int(np.count_nonzero(part.open_time_ms < kept_from_ms))
                bar.advance(task, len(part))
    return stored, old
