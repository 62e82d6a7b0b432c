"""Tests of rules as YAML: candles in, expected alerts out, kept beside the rules they test.

rules: [...]                           # as in a rule file; may be left out if the caller gives the rules
tests:
  - name: a jump of three percent on volume fires once
    rules: [my_rule]                   # only alerts of these count; left out: all rules of the set
    start: 2024-01-01T00:00:00Z        # first minute of every symbol; this date if left out
    candles:
      TESTUSDT:                        # one list of stretches per symbol, minute after minute
        - {minutes: 30, close: 100, quote_volume: 1000}
        - {minutes: 5, close: 103, quote_volume: 9000}     # moves there in a straight line
        - {gap: 2}                                         # minutes without a candle
        - {open: 103, high: 104, low: 101, close: 102, quote_volume: 500}   # one minute, in full
    expect:
      - {rule: my_rule, symbol: TESTUSDT, at: 2024-01-01T00:31:00Z}   # the minute's open time
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import yaml

from app.backtest.backtest import Backtest
from app.backtest.rule_test_candles import candles_of
from app.candles.batch import MINUTE_MS, CandleBatch
from app.candles.symbols import plain_symbol
from app.errors import RuleError
from app.rules.evaluation.rulebook import RuleBook, RuleFault
from app.rules.file_places import read_yaml
from app.rules.files import MAX_LENGTH, check_unique, rules_of_entries, together
from app.rules.language.names import nearest
from app.rules.rule import Rule
from app.times import rfc3339, utc_ms

DEFAULT_START = datetime(2024, 1, 1, tzinfo=UTC)
_KEYS = ("name", "rules", "start", "candles", "expect")


@dataclass(frozen=True, slots=True, order=True)
class Expected:
    """An alert: the minute's open time in UTC ms, rule_type, symbol."""

    open_time_ms: int
    rule_type: str
    symbol: str

    def __str__(self) -> str:
        return f"{self.rule_type} {self.symbol} at {rfc3339(self.open_time_ms)}"


@dataclass(frozen=True, slots=True)
class RuleTest:
    name: str
    rules: tuple[Rule, ...]
    candles: CandleBatch
    expected: frozenset[Expected]


@dataclass(frozen=True, slots=True)
class RuleTestResult:
    """missing: expected alerts that did not come. unexpected: alerts that came without being expected. raised: rules
    that could not be evaluated."""

    name: str
    missing: tuple[Expected, ...]
    unexpected: tuple[Expected, ...]
    raised: tuple[RuleFault, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.missing and not self.unexpected and not self.raised


def run_test(test: RuleTest) -> RuleTestResult:
    """Play the candles in close mode and compare the alerts with the expected ones."""
    backtest = Backtest(RuleBook.compile(test.rules, "close"))
    backtest.feed(test.candles)
    found = {Expected(entry.open_time_ms, entry.rule_type, entry.symbol) for entry in backtest.entries}
    return RuleTestResult(
        test.name, tuple(sorted(test.expected - found)), tuple(sorted(found - test.expected)), backtest.faults
    )


def load_tests(text: str, rules: Sequence[Rule] = ()) -> tuple[RuleTest, ...]:
    """Return the tests of a YAML text; its own rules come on top of `rules`.

    Rules under test are enabled, and judged at the close of each minute. Raises RuleError naming every rule or
    every test at fault.
    """
    if len(text) > MAX_LENGTH:
        raise RuleError(f"the test file has {len(text)} characters, the limit is {MAX_LENGTH}")
    try:
        document, places = read_yaml(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RuleError(f"the test file is not YAML: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("tests"), list):
        raise RuleError("the test file needs a list `tests:` of tests")
    own = document.get("rules", [])
    if not isinstance(own, list) or not all(isinstance(entry, dict) for entry in own):
        raise RuleError("`rules:` of the test file must be a list of rules")
    known = [*rules, *rules_of_entries(own, places)]
    check_unique(known)
    by_name = {rule.rule_type: replace(rule, enabled=True, mode="close") for rule in known}
    tests, faults = [], []
    for at, entry in enumerate(document["tests"], start=1):
        try:
            tests.append(_test(entry, at, by_name))
        except RuleError as error:
            faults.append(str(error))
    if faults:
        raise RuleError(together(faults))
    return tuple(tests)


def _test(entry: object, at: int, rules: Mapping[str, Rule]) -> RuleTest:
    if not isinstance(entry, dict):
        raise RuleError(f"test {at} is not a mapping with {', '.join(_KEYS)}")
    name = str(entry.get("name", f"test {at}"))
    try:
        for key in entry:
            _check_key(key)
        start_ms = _time_ms(entry.get("start", DEFAULT_START))
        if start_ms % MINUTE_MS:
            raise RuleError("start must be a whole minute")
        chosen = _chosen(entry.get("rules"), rules)
        candles = candles_of(entry.get("candles"), start_ms)
        expected = frozenset(_expected(alert, chosen, candles) for alert in _list(entry, "expect"))
    except RuleError as error:
        raise RuleError(f"test {name!r}: {error}") from None
    return RuleTest(name, tuple(chosen.values()), candles, expected)


def _check_key(key: object) -> None:
    if key not in _KEYS:
        guesses = nearest(str(key), _KEYS)
        advice = f"did you mean {guesses[0]}?" if guesses else f"known keys: {', '.join(_KEYS)}"
        raise RuleError(f"unknown key {str(key)[:80]!r}; {advice}")


def _list(entry: Mapping[str, Any], key: str) -> list[Any]:
    value = entry.get(key, [])
    if not isinstance(value, list):
        raise RuleError(f"`{key}` must be a list")
    return value


def _chosen(names: object, rules: Mapping[str, Rule]) -> dict[str, Rule]:
    if names is None:
        return dict(rules)
    if not isinstance(names, list) or not names:
        raise RuleError("`rules` must be a list of rule_types")
    return {str(name): _named(name, rules) for name in names}


def _named(name: object, rules: Mapping[str, Rule]) -> Rule:
    rule = rules.get(str(name))
    if rule is None:
        guesses = nearest(str(name), tuple(rules))
        advice = f"did you mean {guesses[0]}?" if guesses else "add it under `rules:`"
        raise RuleError(f"unknown rule {str(name)[:80]!r}; {advice}")
    return rule


def _expected(alert: object, rules: Mapping[str, Rule], candles: CandleBatch) -> Expected:
    if not isinstance(alert, dict) or set(alert) != {"rule", "symbol", "at"}:
        raise RuleError(f"an expected alert needs rule, symbol and at, not {str(alert)[:80]}")
    rule, given = _named(alert["rule"], rules), str(alert["symbol"])
    symbol = plain_symbol(given) or given
    if symbol not in candles.symbols:
        raise RuleError(f"an alert is expected for {symbol[:80]!r}, which has no candles")
    return Expected(_time_ms(alert["at"]), rule.rule_type, symbol)


def _time_ms(value: object) -> int:
    """Return the time of a YAML time or RFC 3339 text; UTC by default."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise RuleError(
            f"{str(value)[:80]!r} is not a time; write for example 2024-01-01T00:05:00Z"
        ) from None
    return utc_ms(moment)
