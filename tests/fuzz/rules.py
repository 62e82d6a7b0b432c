"""Generated rules on generated frames, against `plain_rules`; generated queries; mutated texts for the parser.

`python -m tests.fuzz.rules --inputs 1000000 [--seed N]`. An input is one rule on one row, one query on one row, or
one text.
"""

from __future__ import annotations

import argparse
import math
import random
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.errors import RuleError
from app.market.fields import METRIC_COLUMNS
from app.rules.alert_builder import build_alerts
from app.rules.cooldown import Fire
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.explain import explain, explain_alert
from app.rules.language.canonical_text import to_text
from app.rules.language.parser import parse_condition, parse_number
from app.rules.rule import Rule
from app.rules.screen import screen
from tests.fuzz.plain_rules import Look, number, parse, truth
from tests.fuzz.rule_texts import Expressions, mutated
from tests.support.metric_rows import Row, metrics_batch

_COLUMNS = (
    "price_change_5m",
    "quote_volume_5m",
    "close_1m",
    "high_1m",
    "rsi_14_15m",
    "bubble_side_5m",
    "vwap_day",
)
_FEW_COLUMNS = tuple(name for name in METRIC_COLUMNS if name in _COLUMNS)
_VALUES = (
    math.nan,
    0.0,
    -0.0,
    1.0,
    1.5,
    2.0,
    -3.0,
    0.1,
    250.0,
    1e9,
    5e-324,
    1e308,
    -1e308,
    math.inf,
    -math.inf,
)
_SYMBOLS = ("AUSDT", "BUSDT", "CUSDT")


@dataclass
class Tally:
    """Counts of the inputs and their outcomes, in constant memory."""

    inputs: int = 0
    rules: int = 0
    refused: int = 0
    true: int = 0
    texts: int = 0
    parsed: int = 0
    queries: int = 0


@dataclass
class _Held:
    since_ms: int | None = None
    minute: int | None = None


@dataclass
class _Plain:
    """One rule by the plain implementation, with its state."""

    rule: Rule
    tree: tuple
    mode: str
    held: dict[str, _Held] = field(default_factory=dict)

    def fires(self, row: Row, look: Look) -> bool:
        """Return whether the rule is true at this row, and has held long enough."""
        if self.rule.symbols is not None and row.symbol not in self.rule.symbols:
            return False
        if self.mode == "close" and not row.closed:
            return False
        is_true = truth(self.tree, look) is True
        if not self.rule.hold_s:
            return is_true
        held = self.held.setdefault(row.symbol, _Held())
        time_ms = row.open_time_ms if self.mode == "close" else row.event_ms
        if not is_true:
            held.since_ms = None
        elif held.since_ms is None or held.minute is None or row.minute - held.minute > 1:
            held.since_ms = time_ms
        held.minute = row.minute
        return held.since_ms is not None and time_ms - held.since_ms >= self.rule.hold_s * 1000


def fuzz(seed: int, inputs: int, tally: Tally | None = None) -> Tally:
    """Try this many inputs. Raises AssertionError, with the seed, round and text, where the implementations differ."""
    tally = tally or Tally()
    goal, at = tally.inputs + inputs, 0
    while tally.inputs < goal:
        at += 1
        rng = random.Random(f"{seed}/{at}")
        where = f"seed {seed}, round {at}"
        _one_book(rng, tally, where)
        for _ in range(3):
            _one_query(rng, tally, where)
        _texts(rng, tally, where)
    return tally


def _rules(rng: random.Random, tally: Tally) -> list[_Plain]:
    found = []
    for at in range(rng.randint(1, 6)):
        text = Expressions(rng).condition(rng.randint(0, 3))
        mode = rng.choice(("live", "close"))
        try:
            rule = Rule(
                f"r{at}",
                text,
                "high",
                mode=mode,
                symbols=rng.choice((None, None, ("AUSDT",), ("BUSDT", "XUSDT"))),
                hold_s=rng.choice((0, 0, 0, 60, 90)),
            )
        except RuleError:
            # nothing but constants, a division by 0, or beyond the bounds
            tally.refused += 1
            continue
        found.append(_Plain(rule, parse(text), mode))
    tally.rules += len(found)
    return found


def _frames(rng: random.Random) -> Iterator[list[Row]]:
    """Yield frames in which each symbol's minute stays the same, goes on by one, or skips one."""
    minutes = dict.fromkeys(_SYMBOLS, 0)
    for _ in range(rng.randint(1, 5)):
        rows = []
        for _ in range(rng.randint(1, 10)):
            symbol = rng.choice(_SYMBOLS)
            minutes[symbol] += rng.choice((0, 1, 1, 1, 1, 2))
            values = {name: rng.choice(_VALUES) for name in _COLUMNS}
            closed = rng.random() < 0.75
            rows.append(Row(symbol, minutes[symbol], values, closed))
        yield rows


def _one_book(rng: random.Random, tally: Tally, where: str) -> None:
    plain = _rules(rng, tally)
    evaluator = Evaluator(RuleBook.compile([one.rule for one in plain], "live"))
    closed: dict[str, dict[int, dict[str, float]]] = {symbol: {} for symbol in _SYMBOLS}
    for rows in _frames(rng):
        batch = metrics_batch(rows, _FEW_COLUMNS)
        matches = evaluator.evaluate(batch)
        assert not evaluator.faults, (where, evaluator.faults)
        found = list(zip(matches.row.tolist(), matches.rule.tolist(), strict=True))
        expected = []
        for at, row in enumerate(rows):
            history = closed[row.symbol]
            look = Look(row.values, row.minute, history)
            for position, one in enumerate(plain):
                if one.fires(row, look):
                    expected.append((at, position))
                _same_explanation(one, look, where)
            if row.closed:
                history[row.minute] = dict(row.values)
            tally.inputs += len(plain)
        assert found == expected, (where, [one.rule for one in plain], rows, found, expected)
        tally.true += len(found)
        for at, position in found:
            _explained_from_the_alert(
                plain[position], matches.seen(position, [at])[0], rows[at], at, batch, where
            )
        evaluator = _perhaps_another(rng, evaluator)


def _perhaps_another(rng: random.Random, evaluator: Evaluator) -> Evaluator:
    """Return an evaluator with the same rules and memory, sometimes after a restart or a change of other rules."""
    if rng.random() < 0.2:
        restored = Evaluator(evaluator.book)
        restored.restore(evaluator.snapshot())
        return restored
    if rng.random() < 0.2:
        passing = Rule("passing", "prev(price) > 1 or crosses_above(price, 2)", "low")
        book = evaluator.book
        evaluator.swap(RuleBook.compile([*book.rules, passing], "live"))
        evaluator.swap(book)
    return evaluator


def _same_explanation(one: _Plain, look: Look, where: str) -> None:
    history: list[dict[str, float | None]] = [_nulls(look.values)]
    at = look.before()
    while at is not None and len(history) < 9:
        history.insert(0, _nulls(at.values))
        at = at.before()
    found, expected = explain(one.rule, history).truth, truth(one.tree, look)
    assert found is expected, (where, one.rule.expression, look, found, expected)


def _nulls(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _explained_from_the_alert(one: _Plain, seen, row: Row, at: int, batch, where: str) -> None:
    fire = Fire(one.rule, one.mode, row.symbol, at, row.open_time_ms, row.event_ms, seen)
    [alert] = build_alerts([fire], batch, 0)
    assert alert.minute_ms == row.open_time_ms, (where, alert)
    clause = explain_alert(alert)
    assert clause is not None, (where, alert)
    if not any(math.isinf(value) for value in row.values.values()) and None not in seen.values():
        assert clause.truth is True, (where, one.rule.expression, seen, clause.lines())


def _one_query(rng: random.Random, tally: Tally, where: str) -> None:
    expressions = Expressions(rng, query=True)
    query, sort = expressions.condition(rng.randint(0, 2)), expressions.number(rng.randint(0, 2))
    rows = [
        Row(f"S{at}USDT", 0, {name: rng.choice(_VALUES) for name in _COLUMNS})
        for at in range(rng.randint(0, 6))
    ]
    try:
        found = screen(metrics_batch(rows, _FEW_COLUMNS), query, sort, "asc").tolist()
    except RuleError:
        tally.refused += 1
        return
    market = [row.values for row in rows]
    tree, key = parse(query), parse(sort)
    true = [at for at, values in enumerate(market) if truth(tree, Look(values, market=market))]
    keys = {at: number(key, Look(market[at], market=market)) for at in true}
    expected = sorted(true, key=lambda at: (keys[at] is None, 0.0 if keys[at] is None else keys[at], at))
    assert found == expected, (where, query, sort, rows, found, expected)
    tally.queries += 1
    tally.inputs += len(rows)


def _texts(rng: random.Random, tally: Tally, where: str) -> None:
    query = rng.random() < 0.3
    for _ in range(10):
        text = mutated(rng, Expressions(rng, query).condition(rng.randint(0, 3)))
        for read in (parse_condition, parse_number):
            try:
                tree = read(text)
            except RuleError as error:
                assert 0 <= error.position <= len(text), (where, text)
                continue
            tally.parsed += 1
            _same_again(read, to_text(tree), tree, where)
        tally.texts += 1
        tally.inputs += 1
        _evaluates(text, where)


def _same_again(read, canonical: str, tree, where: str) -> None:
    """Check that the canonical text parses to the same tree, unless its parentheses exceed the bounds."""
    try:
        again = read(canonical)
    except RuleError as error:
        assert "levels of nesting" in str(error) or "characters" in str(error), (where, canonical)
    else:
        assert again == tree, (where, canonical)


def _evaluates(text: str, where: str) -> None:
    """Check that a text that compiles also evaluates."""
    try:
        rule = Rule("mutant", text, "high")
    except RuleError:
        return
    evaluator = Evaluator(RuleBook.compile([rule], "live"))
    for minute in range(2):
        evaluator.evaluate(metrics_batch([Row("AUSDT", minute, {"close_1m": 1.0})], _FEW_COLUMNS))
    assert not evaluator.faults, (where, text, evaluator.faults)


def peak_mb() -> float:
    """Return the peak memory of this process since its start."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inputs", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    began, tally = time.monotonic(), Tally()
    for tenth in range(10):
        fuzz(chosen.seed + tenth, chosen.inputs // 10, tally)
        print(
            f"{tally.inputs:>9,} inputs  {time.monotonic() - began:6.0f} s  peak {peak_mb():,.0f} MB",
            flush=True,
        )
    print(tally)


if __name__ == "__main__":
    main()
