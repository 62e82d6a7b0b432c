"""`screener replay`: candle files through the whole pipeline."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.candle_files.report import FileReport
from app.cli.candles.candle_sources import GivenFiles, candle_files
from app.cli.output import show
from app.cli.rules.rule_files import rules_of
from app.clock import SystemClock
from app.errors import BadInput, Interrupted, ScreenerError
from app.local.run_servers import started_servers
from app.process.drain import STAGES
from app.process.interrupts import interruptible, stop_signals
from app.replay.alerts_out import by_rule, write_alerts
from app.replay.namespace import drop_namespace
from app.replay.replay import Progress as Told
from app.replay.replay import Replay, ReplayResult
from app.settings import Settings
from app.telemetry.log_output import configure_logging

ANY_PORT = {
    f"{role}_port": 0
    for role in (
        "collector",
        "calculator",
        "alerts",
        "market",
        "sidecar",
        "sidecar_metrics",
        "bridge",
        "sinks",
        "webhooks",
    )
}


def replay(
    files: tuple[Path, ...],
    skip_bad: bool,
    mode: str,
    rules_file: Path | None,
    speed: float | None,
    alerts_out: Path | None,
    candles_per_message: int,
    namespace: str | None,
    keep: Path | None,
) -> None:
    passing = namespace is None
    namespace = namespace or f"replay_{datetime.now(UTC):%Y%m%d_%H%M%S_%f}"
    console = Console(stderr=True)
    settings = Settings.load(namespace=namespace, alert_mode=mode, retention_hours=0, **ANY_PORT)
    configure_logging("warning", settings.log_format)
    rules = None if rules_file is None else rules_of(rules_file)
    candles = candle_files(GivenFiles(files, skip_bad))
    # the bridge takes candles of one exchange, and here it is that of the files
    settings = settings.model_copy(update={"exchange": candles.exchange})
    with ExitStack() as exits:
        directory = keep or Path(tempfile.mkdtemp(prefix="screener-replay-"))
        if keep is None:
            exits.callback(shutil.rmtree, directory, ignore_errors=True)
        settings = settings.model_copy(update={"data_dir": directory})
        servers = exits.enter_context(started_servers(settings, directory))
        playing = Replay(
            servers.settings,
            candles.parts,
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
    _require_candles(outcome)
    _print_report(outcome, candles.report, Console())


def _require_candles(outcome: ReplayResult) -> None:
    """Check that the pipeline took candles. Raises BadInput if not: a rate and "0 alerts" would look like success."""
    if outcome.candles and not _rows(outcome, "calculator"):
        why = f": {_by_reason(outcome.refused)}" if outcome.refused else ""
        raise BadInput(
            "nothing_taken", f"none of {outcome.candles:,} candles was taken{why}; see the logs with --keep"
        )


def _by_reason(refused: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in Counter(refused).most_common())


def _rows(outcome: ReplayResult, stage: str) -> int:
    return sum(facts.get("rows", 0) for (name, _), facts in outcome.reports.items() if name == stage)


def _clean_up(given: Settings, complete: Settings, console: Console) -> None:
    """Drop the namespace on servers given by URL, which must not fill up. Servers that we started end with their data,
    or are kept on purpose."""
    if not any((given.nats_url, given.kafka_url, given.redis_url, given.postgres_url)):
        return
    try:
        asyncio.run(interruptible(drop_namespace(complete.servers(), complete.data_dir)))
    except (Interrupted, ScreenerError) as error:
        console.print(
            f"the namespace {complete.namespace} remains on the servers ({error}); "
            f"remove it with: screener drop-namespace {complete.namespace}"
        )
        if isinstance(error, Interrupted):
            raise


async def _with_progress(playing: Replay, total: int, console: Console) -> ReplayResult:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar, stop_signals() as stop:
        task = bar.add_task("starting", total=total)
        told = Told(
            phase=lambda phase: bar.update(task, description=phase),
            published=lambda count: bar.update(task, completed=count),
        )
        return await playing.run(told, stop)


def _print_report(outcome: ReplayResult, report: FileReport, console: Console) -> None:
    refused = report.refused.total()
    # the one worker of a replay tells its total with the barrier of each partition
    told = (facts.get("duplicates", 0) for (name, _), facts in outcome.reports.items() if name == "collector")
    duplicates = max(told, default=0)
    console.print(
        f"{outcome.candles:,} candles in {outcome.seconds:.1f} s: {outcome.candles_per_s:,.0f} candles/s "
        f"from NATS to the database; {len(outcome.alerts):,} alerts"
        + (f"; {outcome.restarts} restarts of a role" if outcome.restarts else "")
        + (f"; {refused:,} rows of the files rejected" if refused else "")
        + (f"; {duplicates:,} duplicates dropped" if duplicates else "")
        + (f"; rejected by the pipeline: {_by_reason(outcome.refused)}" if outcome.refused else "")
    )
    rules = Table("rule", "alerts", title="Alerts by rule")
    for rule, count in by_rule(outcome.alerts).items():
        rules.add_row(rule, f"{count:,}")
    show(rules, console)
    stages = Table(
        "stage", "rows", "frames", "p50 ms", "p99 ms", title="Latency since the bridge received the candle"
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
    show(stages, console)


def _worst(values: Iterable[float | None]) -> str:
    """Return the largest of the partitions' figures."""
    known = [value for value in values if value is not None]
    return f"{max(known):,.0f}" if known else "-"
