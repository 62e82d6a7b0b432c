"""Faults of expressions for an editor: all wrong names, where they are, and what to write instead."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import RuleError
from app.market.fields import METRIC_COLUMNS
from app.market.timeframes import TIMEFRAMES
from app.rules.language.check import KINDS, text_faults
from app.rules.language.functions import BY_NAME
from app.rules.language.names import FIELD_NAMES, resolve
from app.rules.language.parser import MOST_FAULTS, parse_condition, parse_number
from app.rules.language.walks import uses_previous
from app.rules.rule import Rule
from app.sidecar.rest.language import language

PIECES = (
    *(
        "price",
        "rsi_14_15m",
        "volume_5m",
        "rsy_14_5m",
        "Price",
        "volume",
        "foo",
        "close_3m",
        "vwap_day",
        "macd",
    ),
    *("and", "or", "not", "(", ")", ",", ">", "<=", "==", "+", "-", "*", "/", "&&", "=", "%", "**"),
    *("1", "2k", ".5", "5m", "1e999", "0", "prev", "crosses_above", "rank", "abs(", "min("),
)
TEXTS = st.one_of(
    st.text(max_size=80),
    st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join),
)


def compiles(text: str, kind: str) -> bool:
    try:
        if kind == "rule":
            Rule("a", text, "info")
        else:
            tree = parse_condition(text) if kind == "screen" else parse_number(text)
            return not uses_previous(tree)
    except RuleError:
        return False
    return True


@settings(deadline=None, max_examples=50)
@given(TEXTS, st.sampled_from(KINDS))
def test_there_is_a_fault_exactly_where_a_text_does_not_compile_and_each_lies_in_the_text(text, kind):
    faults = text_faults(text, kind)
    assert (not faults) == compiles(text, kind)
    assert len(faults) <= MOST_FAULTS
    assert [fault.position for fault in faults] == sorted({fault.position for fault in faults})
    for fault in faults:
        assert 0 <= fault.position <= len(text)
        assert fault.position + fault.length <= len(text)
        assert fault.length > 0 or fault.position == len(text)
        assert set(fault.suggestions) <= {*FIELD_NAMES, *BY_NAME}


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.sampled_from(["price", "rsy_14_5m", "volume_1h", "Close_5m", "nothing_at_all"]),
        min_size=1,
        max_size=12,
    )
)
def test_every_wrong_name_is_told(names):
    text = " and ".join(f"{name} > 1" for name in names)
    wrong = []
    for found in re.finditer(r"[A-Za-z]\w+(?= >)", text):
        try:
            resolve(found.group())
        except RuleError:
            wrong.append((found.start(), len(found.group())))
    assert [(fault.position, fault.length) for fault in text_faults(text, "rule")] == wrong[:MOST_FAULTS]


@pytest.mark.parametrize(
    ("text", "position", "length", "suggestion"),
    [
        ("rsy_14_5m > 70", 0, 9, "rsi_14_5m"),
        ("price > 1 and RSI_14_5m > 2", 14, 9, "rsi_14_5m"),
        ("rsi_14 > 70", 0, 6, "rsi_14_15m"),
        ("price > 1 && close > 1", 10, 2, None),
        ("price >", 7, 0, None),
        ("(price > 1", 0, 1, None),
        ("pref(price) > 1", 0, 4, "prev"),
        ("price > 5m", 8, 2, None),
        ("1 > 0", 0, 1, None),
        ("ago(prce, 15m) > 1", 4, 4, "price"),
    ],
)
def test_a_fault_covers_what_is_wrong_and_names_what_was_meant(text, position, length, suggestion):
    [fault] = text_faults(text, "rule")
    assert (fault.position, fault.length) == (position, length)
    assert (suggestion in fault.suggestions) if suggestion else not fault.suggestions


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("prce > 1 and foo(prce, 15x) > 1 and clse < 2", ["prce", "foo", "clse"]),
        ("hihgest(prce, 15x) > 1 && clse = 2", ["hihgest", "prce", "15x", "&&", "clse", "="]),
        ("ema(clos, 9, 15x) > 1 and rsi(close, 0, 7m) > price > 5m", ["clos", "15x", "0", "7m", ">", "5m"]),
        ("price and not close or (1 < price and volume / 0 > +2", ["price", "close", "(", "0", "+"]),
        (
            "ago(price) > 1 and highest(price > 1, 5m) > 1 and within(price, 3d)",
            ["ago", "price", "price", "3d"],
        ),
        ("price > 1e999 and 2. < prce; or", ["1e999", "2.", "prce", ";", ""]),
        ("mean(1) > 0 or share(prce > 1) > 1 or count(5 > 1, 5m) > 1", ["mean", "prce", "count"]),
        ("of(btc, prce) > 0 and roc(foo(close), 9, 15m) > 1", ["btc", "prce", "foo"]),
        ("min(price) > 1 and (foo(", ["min", "foo", "("]),
        ("ema(rsi(clse, 9, 15m), 3, 15m) > 0 and ema(abs(price), 3, 15m) > 1", ["clse", "abs"]),
    ],
)
def test_a_fault_does_not_hide_those_behind_it(text, wrong):
    assert [
        text[fault.position : fault.position + fault.length] for fault in text_faults(text, "rule")
    ] == wrong


def test_the_language_told_to_editors_is_that_of_the_tables():
    told = language()
    names = [name for field in told["fields"] for name in field["names"]]
    assert sorted(names) == sorted(METRIC_COLUMNS)
    assert {*names, *told["aliases"]} == set(FIELD_NAMES)
    assert [function["name"] for function in told["functions"]] == list(BY_NAME)
    assert [frame["name"] for frame in told["timeframes"]] == list(TIMEFRAMES)
    assert all(field["unit"] and field["meaning"] for field in told["fields"])
    for suffix in told["suffixes"]:
        assert parse_condition(f"price > 2{suffix['name']}") == parse_condition(
            f"price > {2 * suffix['factor']}"
        )
