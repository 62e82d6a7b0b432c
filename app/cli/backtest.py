"""`screener backtest`: rules tried on a candle file or on the stored history, without servers in between."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.backtest.compare import Comparison, compare
from app.backtest.explain_at import minutes_needed
from app.backtest.outcomes import Outcome, RuleOutcome
from app.backtest.page import render
from app.backtest.report import Report
from app.backtest.run import Backtest
from app.candles.batch import MINUTE_MS
from app.cli.history import Chosen, Moment, from_database, from_file
from app.cli.rule_sets import rules_for_stored_candles, rules_of
from app.cli.settings_here import settings_here
from app.rules.rule import Mode
from app.rules.rulebook import RuleBook

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUT = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=_FILE, required=False)
@click.option(
    "--from", "since_ms", type=Moment(), help="First minute; earlier ones only make the windows whole."
)
@click.option("--to", "until_ms", type=Moment(), help="Up to this minute, exclusive.")
@click.option("--rules", "rules_file", type=_FILE,
              help="Rules as YAML [default: the shipped ones; without FILE those of the database].")  # fmt: skip
@click.option("--symbols", help="Only these, separated by commas.")
@click.option("--mode", type=click.Choice(["close", "live"]), default="close", show_default=True,
              help="Mode of rules that do not set their own.")  # fmt: skip
@click.option("--alerts-out", type=_OUT, help="Write alerts as JSON lines.")
@click.option("--compare", "other_file", type=_FILE, help="Other rules as YAML: tell what they would change.")
@click.option("--report", "report_file", type=_OUT, help="Write an HTML page with plots.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def backtest(
    file: Path | None,
    since_ms: int | None,
    until_ms: int | None,
    rules_file: Path | None,
    symbols: str | None,
    mode: Mode,
    alerts_out: Path | None,
    other_file: Path | None,
    report_file: Path | None,
    as_json: bool,
) -> None:
    """Try rules on a candle FILE (parquet or CSV), or on the stored history from --from to --to.

    Prints, per rule, its alerts and the returns that followed them beside those of random entries. With
    --compare it also tells which alerts the other rules would add, remove and move.
    """
    _check_span(file, since_ms, until_ms)
    rules = rules_of(rules_file) if file is not None else rules_for_stored_candles(rules_file)
    books = [RuleBook.compile(rules, mode)]
    if other_file is not None:
        books.append(RuleBook.compile(rules_of(other_file), mode))
    chosen = Chosen(_named(symbols), _warm_up_from(since_ms, books), until_ms)
    alerts: list[dict[str, Any]] = []
    collect = alerts.append if alerts_out is not None else None
    run, *others = (
        Backtest(book, collect if book is books[0] else None, since_ms=since_ms) for book in books
    )
    began = time.perf_counter()
    _play([run, *others], file, chosen)
    seconds = time.perf_counter() - began
    report = Report.of(run, mode, compare(run.entries, others[0].entries) if others else None)
    if alerts_out is not None:
        alerts_out.write_bytes(b"".join(orjson.dumps(alert) + b"\n" for alert in alerts))
    if report_file is not None:
        report_file.write_text(render(report, f"Backtest of {file.name if file else 'the history'}"), "utf-8")
    if as_json:
        click.echo(orjson.dumps(report.as_dict(), option=orjson.OPT_INDENT_2).decode())
    else:
        _print(report, seconds, Console())


def _check_span(file: Path | None, since_ms: int | None, until_ms: int | None) -> None:
    if file is None and (since_ms is None or until_ms is None):
        raise click.UsageError("give a candle FILE, or --from and --to for the stored history")
    if since_ms is not None and until_ms is not None and until_ms <= since_ms:
        raise click.UsageError("--to must be later than --from")


def _named(symbols: str | None) -> tuple[str, ...] | None:
    return tuple(symbol.strip() for symbol in symbols.split(",")) if symbols else None


def _warm_up_from(since_ms: int | None, books: list[RuleBook]) -> int | None:
    """From when on candles are needed so that the rules' windows are whole at `since_ms`."""
    if since_ms is None:
        return None
    conditions = [rule.condition() for book in books for rule in book.rules]
    return since_ms - max(map(minutes_needed, conditions), default=0) * MINUTE_MS


def _play(runs: list[Backtest], file: Path | None, chosen: Chosen) -> None:
    if file is not None:
        total, steps = from_file(file, chosen)
    else:
        assert chosen.since_ms is not None
        assert chosen.until_ms is not None
        total, steps = from_database(settings_here(), chosen.since_ms, chosen.until_ms, chosen.symbols)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("minutes" if file is None else "candles", total=total)
        for advance, batch in steps:
            for run in runs:
                run.feed(batch)
            bar.advance(task, advance)
    if not runs[0].counts.candles:
        raise click.ClickException("there is not one candle to play: check --symbols, --from and --to")


def _print(report: Report, seconds: float, console: Console) -> None:
    counts = report.counts
    console.print(
        f"{counts.candles:,} candles of {report.symbols:,} symbols in {seconds:.1f} s"
        f" ({counts.candles / max(seconds, 1e-9):,.0f}/s); {len(report.entries):,} alerts"
        + (f"; {counts.invalid:,} invalid candles left out" if counts.invalid else "")
    )
    for outcome in report.outcomes:
        _print_rule(outcome, console)
    if silent := report.silent():
        console.print(f"could not fire, for want of history or metrics: {', '.join(silent)}")
    if report.comparison is not None:
        console.print(_compared(report.comparison))


def _print_rule(outcome: RuleOutcome, console: Console) -> None:
    console.print(
        f"\n[bold]{outcome.rule_type}[/]: {outcome.fires:,} alerts, {outcome.per_day:,.1f} a day,"
        f" {outcome.symbols:,} symbols",
        highlight=False,
    )
    if outcome.fires:
        head = ("after", "mean %", "random", "median %", "random", "above 0 %", "random", "p")
        table = Table(*head, box=SIMPLE_HEAD)
        for found in outcome.outcomes:
            table.add_row(*_cells(found))
        console.print(table)


def _cells(found: Outcome) -> tuple[str, ...]:
    def number(value: float | None, form: str) -> str:
        return "–" if value is None else form.format(value)

    return (
        found.horizon,
        number(found.alerts.mean_pct, "{:+.3f}"),
        number(found.random.mean_pct, "{:+.3f}"),
        number(found.alerts.median_pct, "{:+.3f}"),
        number(found.random.median_pct, "{:+.3f}"),
        number(found.alerts.hit_pct, "{:.1f}"),
        number(found.random.hit_pct, "{:.1f}"),
        number(found.p_value, "{:.3f}"),
    )


def _compared(comparison: Comparison) -> Table:
    table = Table("rule", "kept", "added", "removed", "moved", title="What the other rules would change")
    for rule_type, counts in comparison.counts().items():
        table.add_row(rule_type, *(f"{count:,}" for count in counts))
    return table
