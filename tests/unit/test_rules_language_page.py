"""LANGUAGE.md against the language: every name, function, unit, bound and field of a rule, and no other."""

from __future__ import annotations

import re
from importlib import resources

import yaml

from app.market.fields import FIELDS, SINGLE_COLUMNS
from app.market.timeframes import TIMEFRAMES
from app.rules.files import RULE_FIELDS, load_rules
from app.rules.language import lexer, parser, productions
from app.rules.language.arguments import MAX_BARS
from app.rules.language.catalogue import matching, tables, with_tables
from app.rules.language.names import ALIASES, FUNCTIONS
from app.rules.language.parser import parse_condition
from app.rules.rule import SEVERITIES

PAGE = resources.files("app.rules").joinpath("LANGUAGE.md").read_text(encoding="utf-8")


def test_its_tables_are_those_of_the_code():
    assert with_tables(PAGE) == PAGE, "run `python -m app.rules.language.catalogue`"
    assert all(f"<!-- {name} -->\n{table}<!-- / -->" in PAGE for name, table in tables().items())


def test_every_metric_is_listed_with_its_unit_what_it_is_and_when_it_is_null():
    listed = [entry for entry in matching() if entry.unit]
    names = [entry.name for entry in listed]
    assert names == [*(f"{name}_TIMEFRAME" for name in FIELDS), *SINGLE_COLUMNS]
    assert all(entry.meaning and entry.null and f"`{entry.name}`" in PAGE for entry in listed)


def test_every_short_name_and_function_is_listed():
    names = {entry.name.partition("(")[0] for entry in matching()}
    assert names >= {*ALIASES, *FUNCTIONS}


def test_a_word_finds_what_has_it_in_its_name_or_meaning():
    assert {"donchian_high(n, tf)", "bb_upper_TIMEFRAME"} <= {
        entry.name for word in ("donchian", "BB_Upper") for entry in matching(word)
    }
    assert not matching("no such word")


def test_the_timeframes_and_bounds_are_those_of_the_language():
    assert f"<!-- timeframes -->\n`{' '.join(TIMEFRAMES)}`\n" in PAGE
    assert f"a number of bars up to {MAX_BARS}" in PAGE
    bounds = f"{lexer.MAX_LENGTH:,} characters, {productions.MAX_NESTING} levels of nesting, "
    assert f"{bounds}{parser.MAX_DEPTH} levels of depth, {parser.MAX_NODES} parts." in PAGE
    assert f"up to {parser.MAX_PREVIOUS} minutes back" in PAGE


def test_the_rule_set_shown_has_every_field_and_loads():
    shown = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
    assert set(yaml.safe_load(shown)["rules"][0]) == set(RULE_FIELDS)
    assert len(load_rules(shown)) == 1
    assert f"# {' '.join(SEVERITIES)}" in shown


def test_the_expressions_shown_are_expressions():
    for line in re.findall(r"```\n(price_change.*?)```", PAGE, re.DOTALL)[0].splitlines():
        parse_condition(line)
