"""`screener replay`: a candle file through the whole pipeline."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.cli.rule_sets import rules_of
from app.clock import SystemClock
from app.errors import ScreenerError
from app.observe import configure_logging
from app.replay.alerts_out import by_rule, write_alerts
from app.replay.clean_up import drop_namespace
from app.replay.drain import STAGES
from app.replay.file import read_candles
from app.replay.run import Outcome, Replay
from app.replay.run import Progress as Told
from app.servers import started_servers
from app.settings import Settings

ANY_PORT = {
    f"{role}_port": 0
    for role in (
        "collector",
        "calculator",
        "alerts",
        "sidecar",
        "sidecar_metrics",
        "bridge",
        "sinks",
        "webhooks",
    )
}


class _Speed(click.ParamType):
    name = "N|max"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if value in (None, "max"):
            return None
        try:
            speed = float(str(value))
        except ValueError:
            speed = 0.0
        if not 0 < speed < 1e6:
            self.fail(f"{value!r} is neither `max` nor a factor above 0", param, ctx)
        return speed


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--mode", type=click.Choice(["close", "live"]), default="close", show_default=True,
              help="Evaluate rules on closed candles by open time, or on every update by event time.")  # fmt: skip
@click.option("--rules", "rules_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Rules as YAML [default: those of the namespace, which are the shipped ones].")  # fmt: skip
@click.option("--speed", type=_Speed(), default="max", show_default=True, help="Times real time, or max.")
@click.option(
    "--alerts-out", type=click.Path(dir_okay=False, path_type=Path), help="Write alerts as JSON lines."
)
@click.option("--candles-per-message", type=click.IntRange(1, 200), default=100, show_default=True,
              help="On NATS: 1 gives each candle a message of its own, on its symbol's subject.")  # fmt: skip
@click.option("--namespace", help="Where it runs on servers given by URL [default: replay_<time>].")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path),
              help="Keep logs and the data of servers we start in this folder.")  # fmt: skip
def replay(
    file: Path,
    mode: str,
    rules_file: Path | None,
    speed: float | None,
    alerts_out: Path | None,
    candles_per_message: int,
    namespace: str | None,
    keep: Path | None,
) -> None:
    """Play a candle FILE (parquet or CSV) through the whole pipeline and report.

    Servers without a URL in the settings are started for the replay and stopped after it.
    """
    passing = namespace is None
    namespace = namespace or f"replay_{datetime.now(UTC):%Y%m%d_%H%M%S_%f}"
    console = Console(stderr=True)
    settings = Settings.load(namespace=namespace, alert_mode=mode, retention_hours=0, **ANY_PORT)
    configure_logging("warning", settings.log_format)
    rules = None if rules_file is None else rules_of(rules_file)
    candles = read_candles(file)
    with ExitStack() as exits:
        directory = keep or Path(tempfile.mkdtemp(prefix="screener-replay-"))
        if keep is None:
            exits.callback(shutil.rmtree, directory, ignore_errors=True)
        settings = settings.model_copy(update={"data_dir": directory})
        servers = exits.enter_context(started_servers(settings, directory))
        playing = Replay(
            servers.settings,
            candles,
            SystemClock(),
            log_dir=directory / "logs",
            speed=speed,
            candles_per_message=candles_per_message,
            rules=rules,
        )
        try:
            outcome = uvloop.run(_with_progress(playing, len(candles), console))
        finally:
            if passing:
                _clean_up(settings, servers.settings, console)
    if alerts_out is not None:
        write_alerts(alerts_out, outcome.alerts)
    _print_report(outcome, Console())


def _clean_up(given: Settings, complete: Settings, console: Console) -> None:
    """Servers that we started end with all they hold, or are kept on purpose; the others must not fill up."""
    if not any((given.nats_url, given.kafka_url, given.redis_url, given.postgres_url)):
        return
    try:
        asyncio.run(drop_namespace(complete))
    except ScreenerError as error:
        console.print(
            f"the namespace {complete.namespace} is left on the servers ({error}); "
            f"remove it with: screener drop-namespace {complete.namespace}"
        )


async def _with_progress(playing: Replay, total: int, console: Console) -> Outcome:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=total)
        told = Told(
            phase=lambda phase: bar.update(task, description=phase),
            published=lambda count: bar.update(task, completed=count),
        )
        return await playing.run(told)


def _print_report(outcome: Outcome, console: Console) -> None:
    console.print(
        f"{outcome.candles:,} candles in {outcome.seconds:.1f} s: {outcome.candles_per_s:,.0f} candles/s "
        f"from NATS to the database; {len(outcome.alerts):,} alerts"
        + (f"; {outcome.restarts} restarts of a role" if outcome.restarts else "")
    )
    rules = Table("rule", "alerts", title="Alerts by rule")
    for rule, count in by_rule(outcome.alerts).items():
        rules.add_row(rule, f"{count:,}")
    console.print(rules)
    stages = Table(
        "stage", "rows", "frames", "p50 ms", "p99 ms", title="Latency since the bridge first saw the candle"
    )
    for stage in STAGES:
        facts = [found for (name, _), found in outcome.reports.items() if name == stage]
        stages.add_row(
            stage,
            f"{sum(found.get('rows', 0) for found in facts):,}",
            f"{sum(found.get('frames', 0) for found in facts):,}",
            _worst(found.get("p50_ms") for found in facts),
            _worst(found.get("p99_ms") for found in facts),
        )
    console.print(stages)


def _worst(values: Iterable[float | None]) -> str:
    """The largest of the partitions' figures."""
    known = [value for value in values if value is not None]
    return f"{max(known):,.0f}" if known else "-"
