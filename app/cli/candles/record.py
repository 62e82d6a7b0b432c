"""`screener record`: candles from NATS into a candle file."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.status import Status

from app.candle_files.reader import read_candle_file
from app.candles.batch import CandleBatch
from app.cli.servers import settings_here
from app.clock import SystemClock
from app.errors import BadInput, SettingsError
from app.process.interrupts import StopEvent, stop_signals, unless_stopped
from app.process.tasks import ended
from app.recording.file import CandleFile
from app.recording.recorder import Recorder
from app.settings import Settings
from app.telemetry.log_output import configure_logging
from app.times import utc
from app.wire.nats.stream import connect, ensure_stream

_TICK_S = 1.0


def record(
    file: Path, backlog: bool, append: bool, minutes: float | None, flush_s: float, rows_per_file: int
) -> None:
    settings = settings_here()
    if settings.nats_url is None:
        raise SettingsError("no NATS to record from: set SCREENER_NATS_URL, or run `screener up` here first")
    configure_logging("warning", settings.log_format)
    if file.exists() and not append:
        raise click.UsageError(f"{file} already exists: give another name, or --append")
    known = _known(file) if append and file.exists() else None
    candles = CandleFile(file, rows_per_file=rows_per_file, known=known)
    uvloop.run(_until_stopped(settings, candles, backlog, minutes, flush_s))


def _known(file: Path) -> CandleBatch:
    """Read the file. Raises BadInput for a file with rows that would be lost when it is written again."""
    read = read_candle_file(file)
    if read.report.refused or read.report.unfinished:
        raise BadInput(
            "file_unusable",
            "\n".join((f"{file} cannot be appended to: give another name", *read.report.refusals())),
        )
    return read.candles


async def _until_stopped(
    settings: Settings, file: CandleFile, backlog: bool, minutes: float | None, flush_s: float
) -> None:
    with stop_signals() as stop:
        if minutes is not None:
            asyncio.get_running_loop().call_later(minutes * 60, stop.set)
        await _record(stop, settings, file, backlog, flush_s)


async def _record(
    stop: StopEvent, settings: Settings, file: CandleFile, backlog: bool, flush_s: float
) -> None:
    client = await unless_stopped(stop, connect(settings.nats().url, "recorder"))
    try:
        await unless_stopped(stop, ensure_stream(client, settings.names()))
        recorder = Recorder(
            client,
            settings.names(),
            SystemClock(),
            file,
            exchange=settings.exchange,
            message_max_bytes=settings.message_max_bytes,
            flush_s=flush_s,
            backlog=backlog,
        )
        console = Console(stderr=True)
        with console.status("waiting for candles") as status:
            showing = asyncio.create_task(_show(recorder, file, status), name="show")
            try:
                await recorder.run(stop)
            finally:
                await ended(showing)
        seen = recorder.recorded.candles
        told = f"the last file is {file.path}" if seen else f"nothing was written to {file.path}"
        console.print(f"{seen:,} candles seen; {told}")
    finally:
        with suppress(TimeoutError):
            await client.close()


async def _show(recorder: Recorder, file: CandleFile, status: Status) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        seen = recorder.recorded
        if not seen.candles:
            continue
        newest = utc(seen.newest_ms)
        parts = [f"{seen.candles:,} candles", f"newest minute {newest:%Y-%m-%d %H:%M}"]
        if seen.flushed_at_s:
            parts.append(
                f"{file.rows:,} in {file.path.name}, {time.monotonic() - seen.flushed_at_s:.0f} s ago"
            )
        if seen.rejected:
            parts.append(f"[red]{seen.rejected:,} invalid[/red]")
        status.update(" | ".join(parts))
