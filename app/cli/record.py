"""`screener record`: what comes over NATS into a candle file."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.status import Status

from app.cli.settings_here import settings_here
from app.clock import SystemClock
from app.errors import SettingsError
from app.ingress.pull import connect_to, ensure_stream
from app.observe import configure_logging
from app.recording.file import ROWS_PER_FILE, CandleFile
from app.recording.run import Recorder
from app.replay.file import read_candles
from app.settings import Settings

_TICK_S = 1.0


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--backlog", is_flag=True, help="Begin with what the stream still holds, up to 48 hours.")
@click.option("--append", is_flag=True, help="Go on with a FILE that is there.")
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), help="Stop after so long [default: Ctrl-C]."
)
@click.option("--flush-s", type=click.FloatRange(1), default=30.0, show_default=True,
              help="How often the file is brought up to date; a crash loses no more.")  # fmt: skip
@click.option("--rows-per-file", type=click.IntRange(1_000), default=ROWS_PER_FILE, show_default=True,
              help="After so many candles FILE-2 begins, and so on.")  # fmt: skip
def record(
    file: Path, backlog: bool, append: bool, minutes: float | None, flush_s: float, rows_per_file: int
) -> None:
    """Record the closed candles that go over NATS into FILE (parquet), for `screener replay` and `backtest`.

    Reads from SCREENER_NATS_URL, or from the NATS of a `screener up` in this directory. The file is readable at
    any moment, whatever happens to the recorder.
    """
    settings = settings_here()
    if settings.nats_url is None:
        raise SettingsError(
            "there is no NATS to record from: set SCREENER_NATS_URL, or run `screener up` here first"
        )
    configure_logging("warning", settings.log_format)
    if file.exists() and not append:
        raise click.UsageError(f"{file} is there already: give another name, or --append")
    known = read_candles(file) if append and file.exists() else None
    candles = CandleFile(file, rows_per_file=rows_per_file, known=known)
    url = settings.nats_url.get_secret_value()
    uvloop.run(_record(url, settings, candles, backlog, minutes, flush_s))


async def _record(
    url: str, settings: Settings, file: CandleFile, backlog: bool, minutes: float | None, flush_s: float
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if minutes is not None:
        loop.call_later(minutes * 60, stop.set)
    client = await connect_to(url, "recorder")
    try:
        await ensure_stream(client, settings)
        recorder = Recorder(client, settings, SystemClock(), file, flush_s=flush_s, backlog=backlog)
        console = Console(stderr=True)
        with console.status("waiting for candles") as status:
            showing = asyncio.create_task(_show(recorder, file, status), name="show")
            try:
                await recorder.run(stop)
            finally:
                showing.cancel()
                await asyncio.wait([showing])
        console.print(f"{recorder.recorded.candles:,} candles seen; the last file is {file.path}")
    finally:
        with suppress(TimeoutError):
            await client.close()


async def _show(recorder: Recorder, file: CandleFile, status: Status) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        seen = recorder.recorded
        if not seen.candles:
            continue
        newest = datetime.fromtimestamp(seen.newest_ms / 1000, UTC)
        parts = [f"{seen.candles:,} candles", f"newest minute {newest:%Y-%m-%d %H:%M}"]
        if seen.flushed_at_s:
            parts.append(
                f"{file.rows:,} in {file.path.name}, {time.monotonic() - seen.flushed_at_s:.0f} s ago"
            )
        if seen.rejected:
            parts.append(f"[red]{seen.rejected:,} not valid[/red]")
        status.update(" | ".join(parts))
