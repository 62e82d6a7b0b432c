"""`screener explain`: why a rule was true for a symbol at a minute, or which values were missing."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from app.backtest.explain_at import backtested_alert, explain_at, explain_over_market
from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.cli.candles.candle_sources import (
    Chosen,
    GivenFiles,
    Steps,
    alert_stored,
    from_database,
    from_files,
    newest_stored,
)
from app.cli.rules.rule_files import rule_named, rules_of
from app.cli.rules.stored_rules import rules_for_stored_candles
from app.cli.servers import settings_here
from app.errors import RuleError, ScreenerError
from app.rules.explain import Clause, explain_alert
from app.rules.rule import Rule
from app.times import rfc3339

_DAYS_BACK = 60
"""Long enough for the indicators of daily bars, as far as the history reaches."""


def explain(
    rule_type: str,
    symbol: str,
    at_ms: int | None,
    files: tuple[Path, ...],
    skip_bad: bool,
    rules_file: Path | None,
    as_json: bool,
) -> None:
    given = GivenFiles(files, skip_bad)
    rules = rules_of(rules_file) if given else rules_for_stored_candles(rules_file)
    rule = rule_named(rules, rule_type)
    try:
        open_time_ms, source, clause = _explained(rule, symbol, at_ms, given)
    except (ScreenerError, click.ClickException):
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise RuleError(f"rule {rule_type} cannot be evaluated: {error!r}") from error
    if as_json:
        click.echo(orjson.dumps(clause.as_dict(), option=orjson.OPT_INDENT_2).decode())
        return
    where = f"in the minute of {rfc3339(open_time_ms)}{source}"
    click.echo(f"{rule_type} for {symbol} {where}: {_verdict(clause)}")
    click.echo("\n".join(clause.lines()))


def _explained(rule: Rule, symbol: str, at_ms: int | None, given: GivenFiles) -> tuple[int, str, Clause]:
    """Return the minute (open time, UTC ms), a remark on it, and the condition in it."""
    stored = (
        alert_stored(settings_here().postgres(), rule.rule_type, symbol, at_ms)
        if not given and at_ms
        else None
    )
    clause = None if stored is None else explain_alert(stored[0])
    if stored is not None and clause is not None:
        return stored[1], f", as the alert of {stored[0].timestamp} saw it", clause
    if rule.looks_at_market:
        until_ms = None if at_ms is None else at_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS
        at = None if until_ms is None else until_ms - MINUTE_MS
        history = (batch for _, batch in _history(None, until_ms, given))
        minute_ms, clause = explain_over_market(rule, history, symbol, at)
        return minute_ms, ", over the whole market", clause
    candles = _candles(symbol, at_ms, given)
    if at_ms is None:
        newest_ms = int(candles.open_time_ms.max())
        return newest_ms, "", explain_at(rule, candles, newest_ms)
    found = stored or (backtested_alert(rule, candles, at_ms) if given else None)
    minute_ms = found[1] if found else at_ms // MINUTE_MS * MINUTE_MS
    return (
        minute_ms,
        ", which fired the alert of that time" if found else "",
        explain_at(rule, candles, minute_ms),
    )


def _candles(symbol: str, at_ms: int | None, given: GivenFiles) -> CandleBatch:
    """Return the candles up to the minute of `at_ms`, or all."""
    if at_ms is None and not given:
        at_ms = newest_stored(settings_here().postgres(), symbol)
    until_ms = None if at_ms is None else at_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS
    batches = [batch for _, batch in _history(symbol, until_ms, given) if len(batch)]
    if not batches:
        when = "" if until_ms is None else f" up to {rfc3339(until_ms)}"
        raise click.ClickException(f"no candles of {symbol}{when}")
    return concatenate(batches)


def _history(symbol: str | None, until_ms: int | None, given: GivenFiles) -> Steps:
    """Return the candles up to `until_ms`. symbol: None for all."""
    symbols = None if symbol is None else (symbol,)
    if given:
        return from_files(given, Chosen(symbols, None, until_ms)).steps
    if until_ms is None:
        return iter(())
    since_ms = until_ms - _DAYS_BACK * 1440 * MINUTE_MS
    return from_database(settings_here().postgres(), since_ms, until_ms, symbols).steps


def _verdict(clause: Clause) -> str:
    if clause.truth:
        return "true"
    missing = "; ".join(part.text for part in clause.failing())
    return f"{'null' if clause.truth is None else 'false'}, because of {missing}"
