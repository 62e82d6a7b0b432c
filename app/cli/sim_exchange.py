"""`screener sim-exchange`: a simulated exchange on a port of this machine."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.status import Status

from app.clock import SystemClock
from app.observe import configure_logging
from app.replay.file import read_candles
from app.settings import Settings
from app.simexchange.fault_schedule import read_schedule
from app.simexchange.market.file import FileMarket
from app.simexchange.market.market import Market
from app.simexchange.market.simulated import SimulatedMarket
from app.simexchange.options import ExchangeOptions
from app.simexchange.server import SimExchange, run_until_stopped, serve_sim_exchange

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_TICK_S = 1.0


@click.command("sim-exchange")
@click.option("--port", type=click.IntRange(0, 65_535), help="[default: SCREENER_SIM_EXCHANGE_PORT, 9098]")
@click.option("--symbols", type=click.IntRange(1, 5_000), help="Contracts of the simulated market.")
@click.option("--seed", type=click.IntRange(0), help="Another seed gives another market.")
@click.option("--file", type=_FILE, help="Play the candles of this file (parquet or CSV) instead.")
@click.option("--file-clock", type=click.Choice(["now", "own"]), default="now", show_default=True,
              help="now: the file's second day is today. own: the time is the file's.")  # fmt: skip
@click.option("--speed", type=click.FloatRange(0.01, 100_000), default=1.0, show_default=True,
              help="Simulated time to real time.")  # fmt: skip
@click.option("--start", type=click.DateTime(), help="Simulated time (UTC) at the start; a fast market needs "
              "a past one, and goes on at real speed when it has come to the present.")  # fmt: skip
@click.option("--updates-per-s", type=click.FloatRange(0.01, 50), help="Of each stream.")
@click.option("--faults", "faults_file", type=_FILE, help="A YAML schedule of faults.")
@click.option("--history-days", type=click.IntRange(2, 2_000), default=90, show_default=True,
              help="How far back candles reach.")  # fmt: skip
@click.option("--weight-limit", type=click.IntRange(100), help="Request weight a minute and address.")
@click.option("--ping-s", type=click.FloatRange(0.1), default=180.0, show_default=True)
@click.option("--lifetime-s", type=click.FloatRange(1), default=86_400.0, show_default=True,
              help="After which a connection is closed.")  # fmt: skip
@click.option("--streams", type=click.IntRange(1, 1024), default=200, show_default=True,
              help="Most streams of one connection.")  # fmt: skip
def sim_exchange(
    port: int | None,
    symbols: int | None,
    seed: int | None,
    file: Path | None,
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
    """Serve a simulated exchange that speaks the protocol of Binance USD-M futures, until Ctrl-C.

    Faults on command: POST a JSON object such as {"kind": "drop", "share": 0.5} to /sim/faults; GET /sim/state
    tells what is going on.
    """
    given = {
        "sim_exchange_port": port,
        "simulated_symbols": symbols,
        "simulated_seed": seed,
        "simulated_updates_per_s": updates_per_s,
        "sim_exchange_weight_per_minute": weight_limit,
    }
    settings = Settings.load(**{name: value for name, value in given.items() if value is not None})
    configure_logging(settings.log_level, settings.log_format)
    start_ms = None if start is None else int(start.replace(tzinfo=UTC).timestamp() * 1000)
    market, start_ms = _market(settings, file, file_clock, start_ms)
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


def _market(
    settings: Settings, file: Path | None, file_clock: str, start_ms: int | None
) -> tuple[Market, int | None]:
    """The market, and when its exchange opens: UTC ms, None for the present."""
    if file is None:
        return SimulatedMarket(settings.simulated_symbols, settings.simulated_seed), start_ms
    candles = read_candles(file)
    if not len(candles):
        raise click.UsageError(f"{file} holds no candle")
    begins_ms = SystemClock().now_ms() if start_ms is None else start_ms
    market = FileMarket(
        candles, settings.simulated_seed, begins_ms=None if file_clock == "own" else begins_ms
    )
    return market, market.start_ms


async def _serve(market: Market, options: ExchangeOptions) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    console = Console(stderr=True)
    async with serve_sim_exchange(market, SystemClock(), options) as simulated:
        address = f"{options.host}:{simulated.port}"
        console.print(f"[bold]The simulated exchange is open:[/bold] http://{address}  ws://{address}/stream")
        console.print(f"  faults     POST http://{address}/sim/faults   state: http://{address}/sim/state")
        with console.status("") as status:
            showing = asyncio.create_task(_show(simulated, status), name="show")
            try:
                await run_until_stopped(simulated, stop, None)
            finally:
                showing.cancel()
                await asyncio.wait([showing])


async def _show(simulated: SimExchange, status: Status) -> None:
    before = simulated.fanout.events
    while True:
        await asyncio.sleep(_TICK_S)
        now = simulated.fanout.events
        moment = datetime.fromtimestamp(simulated.exchange.clock.now_ms() / 1000, UTC)
        status.update(
            f"{moment:%Y-%m-%d %H:%M:%S} | {len(simulated.websockets.connections)} connections"
            f" | {(now - before) / _TICK_S:,.0f} events/s | {simulated.rest.requests:,} requests"
            f" | {sum(simulated.faults.commanded.values()):,} faults"
        )
        before = now
