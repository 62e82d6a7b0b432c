"""`screener sim-exchange`: a simulated exchange on a port of this machine."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.status import Status

from app.cli.candles.candle_sources import GivenFiles, candle_files
from app.clock import SystemClock
from app.local.exchange.faults.schedule import read_schedule
from app.local.exchange.market.file import FileMarket
from app.local.exchange.market.market import Market
from app.local.exchange.market.simulated import SimulatedMarket
from app.local.exchange.options import ExchangeOptions
from app.local.exchange.server import SimExchange, run_until_stopped, serve_sim_exchange
from app.process.interrupts import stop_signals
from app.process.tasks import ended
from app.settings import Settings
from app.telemetry.log_output import configure_logging
from app.times import utc, utc_ms

_TICK_S = 1.0


def sim_exchange(
    port: int | None,
    symbols: int | None,
    seed: int | None,
    files: tuple[Path, ...],
    skip_bad: bool,
    file_clock: str,
    speed: float,
    start: datetime | None,
    updates_per_s: float | None,
    faults_file: Path | None,
    history_days: int,
    weight_limit: int | None,
    ping_s: float,
    lifetime_s: float,
    streams: int,
) -> None:
    given = {
        "sim_exchange_port": port,
        "simulated_symbols": symbols,
        "simulated_seed": seed,
        "simulated_updates_per_s": updates_per_s,
        "sim_exchange_weight_per_minute": weight_limit,
    }
    settings = Settings.load(**{name: value for name, value in given.items() if value is not None})
    configure_logging(settings.log_level, settings.log_format)
    start_ms = None if start is None else utc_ms(start)
    market: Market = SimulatedMarket(settings.simulated_symbols, settings.simulated_seed)
    if files:
        opens_ms = SystemClock().now_ms() if start_ms is None else start_ms
        played = _file_market(
            GivenFiles(files, skip_bad),
            settings.simulated_seed,
            None if file_clock == "own" else opens_ms,
        )
        market, start_ms = played, played.start_ms
    options = replace(
        ExchangeOptions.of(settings),
        speed=speed,
        start_ms=start_ms,
        history_days=history_days,
        ping_s=ping_s,
        silence_s=max(ExchangeOptions.silence_s, 3 * ping_s),
        lifetime_s=lifetime_s,
        streams_per_connection=streams,
        schedule=() if faults_file is None else read_schedule(faults_file),
    )
    uvloop.run(_serve(market, options))


def _file_market(given: GivenFiles, seed: int, begins_ms: int | None) -> FileMarket:
    """Return the market of the files. begins_ms: when its exchange opens, UTC ms; None for the files' own time."""
    candles = candle_files(given).whole()
    if not len(candles):
        raise click.UsageError(f"{given.name()} has no candle")
    return FileMarket(candles, seed, begins_ms=begins_ms)


async def _serve(market: Market, options: ExchangeOptions) -> None:
    console = Console(stderr=True)
    with stop_signals() as stop:
        async with serve_sim_exchange(market, SystemClock(), options) as simulated:
            address = f"{options.host}:{simulated.port}"
            console.print(
                f"[bold]The simulated exchange is up:[/bold] http://{address}  ws://{address}/stream"
            )
            console.print(
                f"  faults     POST http://{address}/sim/faults   state: http://{address}/sim/state"
            )
            with console.status("") as status:
                showing = asyncio.create_task(_show(simulated, status), name="show")
                try:
                    await run_until_stopped(simulated, stop, None)
                finally:
                    await ended(showing)


async def _show(simulated: SimExchange, status: Status) -> None:
    before = simulated.fanout.events
    while True:
        await asyncio.sleep(_TICK_S)
        now = simulated.fanout.events
        moment = utc(simulated.exchange.clock.now_ms())
        status.update(
            f"{moment:%Y-%m-%d %H:%M:%S} | {len(simulated.websockets.connections)} connections"
            f" | {(now - before) / _TICK_S:,.0f} events/s | {simulated.rest.requests:,} requests"
            f" | {sum(simulated.faults.commanded.values()):,} faults"
        )
        before = now
