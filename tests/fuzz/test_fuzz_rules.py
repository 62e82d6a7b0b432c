"""Rules, queries and almost rules in bulk; `FUZZ_INPUTS` tries more."""

from __future__ import annotations

import os

import pytest

from tests.fuzz.plain_rules import Look, parse, truth
from tests.fuzz.rules import fuzz

INPUTS = int(os.environ.get("FUZZ_INPUTS", "20000"))
TIMEOUT_S = max(300, INPUTS // 100)


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("seed", [1, 2])
def test_rules_queries_and_explanations_mean_what_the_language_says_and_no_text_breaks_the_parser(seed):
    tally = fuzz(seed, INPUTS // 2)
    assert tally.inputs >= INPUTS // 2
    # it must have tried something of each kind
    assert tally.refused < tally.rules
    assert 0.05 < tally.true / tally.inputs < 0.6
    assert min(tally.texts, tally.parsed, tally.queries) > tally.inputs / 1_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price > 1 AND not (volume_5m > 2)", None),
        ("price > 1 or volume_5m > 2", True),
        ("-price * 2 + 1_000 == .99e3 + 4", True),
        ("crosses_above(price, 2)", True),
        ("crosses_below(price, 2) or prev(prev(price)) > 0", None),
        ("min(price, 2k, 1M) - max(1, 2) / abs(-2) == 2", True),
        ("price / 0.0 > 1", None),
        ("price > prev(2)", True),
    ],
)
def test_the_independent_evaluator_reads_the_language_by_itself(text, expected):
    look = Look({"close_1m": 3.0}, 5, {4: {"close_1m": 2.0}})
    assert truth(parse(text), look) is expected
