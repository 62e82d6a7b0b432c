"""The alerts that the library's rules give on recorded candles, written into the library's page.

`python -m benchmarks.rule_library` writes `app/rules/LIBRARY.md`. It plays the candles of 91 symbols in `MARKET_DATA`
once, with all rules enabled, in mode `close`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from app.backtest.backtest import Backtest
from app.backtest.forward import ForwardReturns
from app.backtest.outcomes import Outcome, RuleOutcome
from app.rules.evaluation.cost import VALUES_MAX, values_by_symbol
from app.rules.evaluation.rulebook import RuleBook
from app.rules.files import fingerprint, library_text, load_rules
from app.rules.rule import Rule
from app.times import rfc3339
from tests.support.market_batches import batch_of_table
from tests.support.market_data import ALTCOINS_2021, market_data_dir

PAGE = Path(__file__).resolve().parents[1] / "app" / "rules" / "LIBRARY.md"
MINUTES_TOGETHER = 240
HORIZONS = ("15m", "1h", "4h")
WAYS = {"_up": "up", "_down": "down"}

HEAD = """# A library of rules
Forty rules to choose from, all disabled: none is in force until you enable it.
```
screener rules library > library.yaml      the rules and their tests
screener rules apply library.yaml          into the database, still disabled
screener rules enable breakout_4h_up       one of them in force
screener test-rules library.yaml           their tests
```
"""
FIGURES = """## What they found
{candles:,} recorded candles of {symbols} symbols, from {since} to {until}, in mode `close`, all forty enabled.
"A symbol-day" is a day of one symbol in which the metrics of the rule were known. "After" is the mean return from the
close of the alert's minute, in percent, not turned by the direction; in brackets that of random entries at the same
symbols; then p (two-sided, against 499 shifts of all alerts of the rule together). `–`: fewer than two alerts with a
known return.

These are three days of one market with a crash in them, and forty rules times three horizons: some p below 0.05 are
chance. The figures show how often a rule speaks, **not that it earns anything**.

The forty together remember {values:,} values of each symbol, the bound is {most:,}. Measured for the rules with the
fingerprint `{fingerprint}`.

| rule | alerts | a symbol-day | symbols | {after} |
|---|--:|--:|--:|{rights}|
"""


def main() -> None:
    rules = [replace(rule, enabled=True) for rule in load_rules(library_text())]
    backtest = Backtest(RuleBook.compile(rules, "close"))
    returns = ForwardReturns()
    candles = batch_of_table(pq.read_table(market_data_dir() / ALTCOINS_2021))
    together = MINUTES_TOGETHER * len(candles.symbols)
    for at in range(0, len(candles), together):
        returns.take(backtest.feed(candles.take(slice(at, at + together))))
    assert not backtest.faults, backtest.faults
    outcomes = {found.rule_type: found for found in returns.outcomes(backtest.awake_ms)}
    figures = FIGURES.format(
        candles=len(candles),
        symbols=len(candles.symbols),
        since=rfc3339(int(candles.open_time_ms.min()))[:16],
        until=rfc3339(int(candles.open_time_ms.max()))[:16],
        values=values_by_symbol(rules),
        most=VALUES_MAX,
        fingerprint=fingerprint(load_rules(library_text())),
        after=" | ".join(f"after {horizon}" for horizon in HORIZONS),
        rights="|".join("--:" for _ in HORIZONS),
    )
    rows = [_row(outcomes[rule.rule_type], len(candles.symbols)) for rule in rules]
    PAGE.write_text(f"{HEAD}\n{''.join(_rules(rules))}\n{figures}{''.join(rows)}", encoding="utf-8")
    print(f"{PAGE}: {len(backtest.entries):,} alerts of {len(candles):,} candles")


def _rules(rules: Sequence[Rule]) -> Iterator[str]:
    yield "## The rules\n| rule | expects | severity | it fires when | expression |\n|---|---|---|---|---|\n"
    for rule in rules:
        way = next((way for ending, way in WAYS.items() if rule.rule_type.endswith(ending)), "")
        where = "" if rule.symbols is None else f" (at {', '.join(rule.symbols)})"
        yield (
            f"| `{rule.rule_type}` | {way or 'none'} | {rule.severity} | {rule.description}{where} |"
            f" `{rule.expression}` |\n"
        )


def _row(found: RuleOutcome, symbols: int) -> str:
    after = {outcome.horizon: outcome for outcome in found.outcomes}
    cells = " | ".join(_after(after[horizon]) for horizon in HORIZONS)
    daily = found.per_day / symbols
    return f"| `{found.rule_type}` | {found.fires:,} | {daily:.3f} | {found.symbols} | {cells} |\n"


def _after(found: Outcome) -> str:
    if found.alerts.mean_pct is None or found.random.mean_pct is None or found.p_value is None:
        return "–"
    return f"{found.alerts.mean_pct:+.2f} ({found.random.mean_pct:+.2f}) {found.p_value:.3f}"


if __name__ == "__main__":
    main()
