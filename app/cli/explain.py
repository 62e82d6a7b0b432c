"""`screener explain`: why a rule was true for a symbol at a minute, or what was missing."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from app.backtest.explain_at import explain_at
from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.cli.history import Chosen, Moment, Steps, from_database, from_file, newest_stored
from app.cli.rule_sets import rule_named, rules_for_stored_candles, rules_of
from app.cli.settings_here import settings_here
from app.rules.alert import rfc3339
from app.rules.explain import Clause

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DAYS_BACK = 60
"""Long enough for the indicators of daily bars, as far as the history reaches."""


@click.command()
@click.argument("rule_type")
@click.argument("symbol")
@click.option("--at", "at_ms", type=Moment(), help="Any time within the minute [default: the newest known].")
@click.option("--file", type=_FILE, help="A candle file [default: the stored history].")
@click.option("--rules", "rules_file", type=_FILE,
              help="Rules as YAML [default: those of the database, or with --file the shipped ones].")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the tree as JSON.")
def explain(
    rule_type: str, symbol: str, at_ms: int | None, file: Path | None, rules_file: Path | None, as_json: bool
) -> None:
    """Explain rule RULE_TYPE for SYMBOL at a minute: every clause with its value, threshold and margin.

    The condition alone is explained; a cooldown may have kept a true one from becoming an alert.
    """
    rules = rules_for_stored_candles(rules_file) if file is None else rules_of(rules_file)
    rule = rule_named(rules, rule_type)
    candles = _candles(symbol, at_ms, file)
    open_time_ms = int(candles.open_time_ms.max()) if at_ms is None else at_ms // MINUTE_MS * MINUTE_MS
    clause = explain_at(rule, candles, open_time_ms)
    if as_json:
        click.echo(orjson.dumps(clause.as_dict(), option=orjson.OPT_INDENT_2).decode())
        return
    click.echo(f"{rule_type} for {symbol} in the minute of {rfc3339(open_time_ms)}: {_verdict(clause)}")
    click.echo("\n".join(clause.lines()))


def _candles(symbol: str, at_ms: int | None, file: Path | None) -> CandleBatch:
    """Those up to the minute of `at_ms`, or all."""
    if at_ms is None and file is None:
        at_ms = newest_stored(settings_here(), symbol)
    until_ms = None if at_ms is None else at_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS
    batches = [batch for _, batch in _history(symbol, until_ms, file) if len(batch)]
    if not batches:
        when = "" if until_ms is None else f" up to {rfc3339(until_ms)}"
        raise click.ClickException(f"there are no candles of {symbol}{when}")
    return concatenate(batches)


def _history(symbol: str, until_ms: int | None, file: Path | None) -> Steps:
    if file is not None:
        return from_file(file, Chosen((symbol,), None, until_ms))[1]
    if until_ms is None:
        return iter(())
    since_ms = until_ms - _DAYS_BACK * 1440 * MINUTE_MS
    return from_database(settings_here(), since_ms, until_ms, (symbol,))[1]


def _verdict(clause: Clause) -> str:
    if clause.truth:
        return "true"
    missing = "; ".join(part.text for part in clause.failing())
    return f"{'null' if clause.truth is None else 'false'}, because of {missing}"
