"""`screener backtest`: rules tried on candle files or on the stored history, without servers in between."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.backtest.backtest import Backtest
from app.backtest.compare import AlertComparison
from app.backtest.explain_at import minutes_needed
from app.backtest.forward import ForwardReturns
from app.backtest.outcomes import Outcome, RuleOutcome
from app.backtest.prices import ClosePrices
from app.backtest.report import Report
from app.backtest.report_page import render
from app.candle_files.report import FileReport
from app.candles.batch import MINUTE_MS
from app.candles.validity import Reason
from app.cli.candles.candle_sources import Chosen, GivenFiles, from_database, from_files
from app.cli.candles.kept_closes import KeptCloses
from app.cli.output import show, show_json
from app.cli.rules.rule_files import rules_of
from app.cli.rules.stored_rules import rules_for_stored_candles
from app.cli.servers import settings_here
from app.rules.alert import Alert
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Mode
from app.times import rfc3339


def backtest(
    files: tuple[Path, ...],
    skip_bad: bool,
    since_ms: int | None,
    until_ms: int | None,
    rules_file: Path | None,
    symbols: tuple[str, ...] | None,
    mode: Mode,
    alerts_out: Path | None,
    other_file: Path | None,
    report_file: Path | None,
    as_json: bool,
) -> None:
    given = GivenFiles(files, skip_bad)
    _check_span(given, since_ms, until_ms)
    rules = rules_of(rules_file) if given else rules_for_stored_candles(rules_file)
    books = [RuleBook.compile(rules, mode)]
    if other_file is not None:
        books.append(RuleBook.compile(rules_of(other_file), mode))
    chosen = Chosen(symbols, _warm_up_from(since_ms, books), until_ms)
    kept = KeptCloses()
    click.get_current_context().call_on_close(kept.close)
    returns = ForwardReturns(ClosePrices(kept))
    began = time.perf_counter()
    with _alerts_to(alerts_out) as on_alert:
        run = Backtest(books[0], on_alert, since_ms, keep_entries=False)
        other = Backtest(books[-1], None, since_ms, keep_entries=False) if other_file is not None else None
        comparison = AlertComparison()
        of_files = _play(run, other, returns, comparison, given, chosen)
    report = Report.of(run, returns, mode, comparison if other is not None else None)
    seconds = time.perf_counter() - began
    for fault in (*run.faults, *(other.faults if other is not None else ())):
        click.echo(f"rule {fault.rule.rule_type} could not be evaluated: {fault.error}", err=True)
    if report_file is not None:
        report_file.write_text(
            render(report, f"Backtest of {given.name() if given else 'the history'}"), "utf-8"
        )
    if as_json:
        found = report.as_dict() | ({} if of_files is None else {"file": of_files.as_dict()})
        show_json(found)
    else:
        _print(report, seconds, Console())


@contextmanager
def _alerts_to(path: Path | None) -> Iterator[Callable[[Alert], None] | None]:
    """Yield a function that writes an alert to the file; None without a file."""
    if path is None:
        yield None
        return
    with path.open("wb") as file:
        yield lambda alert: file.writelines((alert.encode(), b"\n"))


def _check_span(given: GivenFiles, since_ms: int | None, until_ms: int | None) -> None:
    if not given and (since_ms is None or until_ms is None):
        raise click.UsageError("give a candle FILE, or --from and --to for the stored history")
    if since_ms is not None and until_ms is not None and until_ms <= since_ms:
        raise click.UsageError("--to must be later than --from")


def _warm_up_from(since_ms: int | None, books: list[RuleBook]) -> int | None:
    """Return the time from which candles are needed, so that the rules' windows are complete at `since_ms`."""
    if since_ms is None:
        return None
    conditions = [rule.condition() for book in books for rule in book.rules]
    return since_ms - max(map(minutes_needed, conditions), default=0) * MINUTE_MS


def _play(
    run: Backtest,
    other: Backtest | None,
    returns: ForwardReturns,
    comparison: AlertComparison,
    given: GivenFiles,
    chosen: Chosen,
) -> FileReport | None:
    """Feed the candles to both runs, the steps of `run` to `returns`, and the alerts of both to `comparison`; return
    the report on the files."""
    if given:
        history = from_files(given, chosen)
    else:
        assert chosen.since_ms is not None
        assert chosen.until_ms is not None
        history = from_database(settings_here().postgres(), chosen.since_ms, chosen.until_ms, chosen.symbols)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("candles" if given else "minutes", total=history.total)
        for advance, batch in history.steps:
            step = run.feed(batch)
            returns.take(step)
            if other is not None:
                comparison.take(step.entries, other.feed(batch).entries)
            bar.advance(task, advance)
    if not run.counts.candles:
        raise click.ClickException("no candle to play: check --symbols, --from and --to")
    if run.counts.invalid == run.counts.candles:
        raise click.ClickException(f"no valid candle to play: {_by_reason(run.counts.refused)}")
    return history.file


def _by_reason(refused: Counter[Reason]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in refused.most_common())


def _print(report: Report, seconds: float, console: Console) -> None:
    counts = report.counts
    console.print(
        f"{counts.candles:,} candles of {report.symbols:,} symbols in {seconds:.1f} s"
        f" ({counts.candles / max(seconds, 1e-9):,.0f}/s); {report.alerts:,} alerts"
        + (f"; {counts.invalid:,} candles rejected: {_by_reason(counts.refused)}" if counts.invalid else "")
    )
    for outcome in report.outcomes:
        _print_rule(outcome, console)
    if silent := report.silent():
        console.print(f"could not fire, because history or metrics are missing: {', '.join(silent)}")
    if report.comparison is not None:
        show(_compared(report.comparison), console)


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
        show(table, console)
    if len(outcome.months) > 1:
        show(_months(outcome), console)


def _months(outcome: RuleOutcome) -> Table:
    table = Table(
        "month", "alerts", *(f"% after {found.horizon}" for found in outcome.outcomes), box=SIMPLE_HEAD
    )
    for month in outcome.months:
        means = (_number(month.mean_pct(at), "{:+.3f}") for at in range(len(outcome.outcomes)))
        table.add_row(rfc3339(month.start_ms)[:7], f"{month.fires:,}", *means)
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _cells(found: Outcome) -> tuple[str, ...]:
    return (
        found.horizon,
        _number(found.alerts.mean_pct, "{:+.3f}"),
        _number(found.random.mean_pct, "{:+.3f}"),
        _number(found.alerts.median_pct, "{:+.3f}"),
        _number(found.random.median_pct, "{:+.3f}"),
        _number(found.alerts.hit_pct, "{:.1f}"),
        _number(found.random.hit_pct, "{:.1f}"),
        _number(found.p_value, "{:.3f}"),
    )


def _compared(comparison: AlertComparison) -> Table:
    table = Table("rule", "kept", "added", "removed", "moved", title="Effect of the other rules")
    for rule_type, counts in comparison.counts().items():
        table.add_row(rule_type, *(f"{count:,}" for count in counts))
    return table
