"""`screener explain`: why a rule was true for a symbol at a minute, or what was missing."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from app.backtest.explain_at import explain_at
from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.cli.history import Chosen, Moment, from_database, from_file
from app.cli.rule_sets import rule_named, rules_of
from app.rules.alert import rfc3339
from app.rules.explain import Clause
from app.settings import Settings

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DAYS_BACK = 60
"""Long enough for the indicators of daily bars, as far as the history reaches."""


@click.command()
@click.argument("rule_type")
@click.argument("symbol")
@click.option("--at", "at_ms", type=Moment(), required=True, help="Any time within the minute.")
@click.option("--file", type=_FILE, help="A candle file [default: the stored history].")
@click.option("--rules", "rules_file", type=_FILE, help="Rules as YAML [default: the shipped ones].")
@click.option("--json", "as_json", is_flag=True, help="Print the tree as JSON.")
def explain(
    rule_type: str, symbol: str, at_ms: int, file: Path | None, rules_file: Path | None, as_json: bool
) -> None:
    """Explain rule RULE_TYPE for SYMBOL at a minute: every clause with its value, threshold and margin.

    The condition alone is explained; a cooldown may have kept a true one from becoming an alert.
    """
    rule = rule_named(rules_of(rules_file), rule_type)
    open_time_ms = at_ms // MINUTE_MS * MINUTE_MS
    clause = explain_at(rule, _candles(symbol, open_time_ms, file), open_time_ms)
    if as_json:
        click.echo(orjson.dumps(clause.as_dict(), option=orjson.OPT_INDENT_2).decode())
        return
    click.echo(f"{rule_type} for {symbol} in the minute of {rfc3339(open_time_ms)}: {_verdict(clause)}")
    click.echo("\n".join(clause.lines()))


def _candles(symbol: str, open_time_ms: int, file: Path | None) -> CandleBatch:
    chosen = Chosen((symbol,), None, open_time_ms + MINUTE_MS)
    if file is not None:
        _, steps = from_file(file, chosen)
    else:
        since_ms = open_time_ms - _DAYS_BACK * 1440 * MINUTE_MS
        _, steps = from_database(Settings.load(), since_ms, open_time_ms + MINUTE_MS, (symbol,))
    batches = [batch for _, batch in steps if len(batch)]
    if not batches:
        raise click.ClickException(f"there are no candles of {symbol} up to {rfc3339(open_time_ms)}")
    return concatenate(batches)


def _verdict(clause: Clause) -> str:
    if clause.truth:
        return "true"
    missing = "; ".join(part.text for part in clause.failing())
    return f"{'null' if clause.truth is None else 'false'}, because of {missing}"
