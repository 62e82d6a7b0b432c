"""The parser against arbitrary text: it gives a tree or a RuleError, never anything else."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import RuleError
from app.rules.language.canonical_text import to_text
from app.rules.language.lexer import MAX_LENGTH
from app.rules.language.names import FIELD_NAMES, FUNCTIONS
from app.rules.language.parser import MAX_NODES, parse_condition, parse_number, pointer
from app.rules.language.tree import CONDITION_KINDS
from app.rules.language.walks import walk

WORDS = "and or not ( ) , > >= < <= == != + - * / 1 2.5 3k 1e9 price volume_5m price_change_1h"
PIECES = st.sampled_from([" ", *WORDS.split(), *FUNCTIONS])
PROSE = st.text(max_size=200) | st.text(string.printable, max_size=200)
LIKELY = st.lists(PIECES, max_size=60).map(" ".join) | st.lists(PIECES | PROSE, max_size=20).map("".join)

HOSTILE = [
    "__import__('os').system('true')",
    "().__class__.__bases__[0].__subclasses__()",
    "price.__class__ > 1",
    "lambda: 1",
    "exec('1')",
    "eval(price)",
    "open(price)",
    "price > 1; price < 2",
    "price := 3",
    "[x for x in price]",
    "{price: 1}",
    "f'{price}'",
    "price > 1 if price else 2",
    "price\x00 > 1",
    "price > 1 # comment",
    "price > 1 -- comment",
    "price > 1 \\\n and price < 2",
    "$price > 1",
    "price > ${HOME}",
    "price > 1 and `id`",
    "price ** 9 ** 9 ** 9 > 1",
    "price > 1e999",
    "price > " + "9" * 1900,
    "price > 0x10",
    "price > 1j",
    "price > nan",
    "price > inf",
    "price > True",
    "price > None",
    "\u0440rice > 1",
    "price > \u0661",
    "price\u00a0> 1",
    "price \uff1e 1",
    "(" * 1000 + "price" + ")" * 999,
    "-" * 1999,
    "not " * 499 + "price > 1",
    "abs(" * 400 + "price",
    "price" + " + price" * 200 + " > 1",
    "price > 1" + " and price > 1" * 140 + " and price > 1" * 1000,
    "prev(" * 20 + "price" + ")" * 20 + " > 1",
    "a" * 100_000,
    "price > 1 and " + "x" * 1900,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_expression_is_refused_with_its_position(text):
    with pytest.raises(RuleError) as refused:
        parse_condition(text)
    assert 0 <= refused.value.position <= min(len(text), MAX_LENGTH)
    assert len(str(refused.value)) < 1_000


@settings(max_examples=1_000, deadline=None)
@given(PROSE | LIKELY)
@example("price > 1")
@example("")
def test_any_text_gives_a_bounded_tree_or_a_rule_error(text):
    for parse in (parse_condition, parse_number):
        fault = None
        try:
            node = parse(text)
        except RuleError as error:
            fault = error
        if fault:
            assert 0 <= fault.position <= len(text)
            assert pointer(text, fault).endswith("^")
        else:
            assert isinstance(node, CONDITION_KINDS) == (parse is parse_condition)
            assert sum(1 for _ in walk(node)) <= MAX_NODES
            assert parse(to_text(node)) == node


@given(st.sampled_from(FIELD_NAMES), st.integers(0, 30), st.sampled_from(string.ascii_lowercase))
def test_a_misspelt_metric_is_refused_where_it_stands_and_a_name_is_offered(name, at, letter):
    at = min(at, len(name) - 1)
    misspelt = name[:at] + letter + name[at + 1 :]
    if misspelt in FIELD_NAMES:
        return
    with pytest.raises(RuleError) as refused:
        parse_condition(f"price > 1 and {misspelt} > 2")
    assert refused.value.position == len("price > 1 and ")
    assert any(known in str(refused.value) for known in FIELD_NAMES) or "timeframe" in str(refused.value)
