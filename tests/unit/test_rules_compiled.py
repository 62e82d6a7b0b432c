"""Compiled rules match where NumPy finds their conditions true, in frames of any size, together with other rules."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import app
from app.compiled import KERNEL_FOLDERS
from app.market.fields import COLUMN_POSITION
from app.market.metrics import MetricsBatch
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.memory import PreviousValues
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule
from tests.support.metric_rows import Row, metrics_batch

A, B, C = "price_change_5m", "price", "volume_ratio_5m"
CONDITIONS = (
    f"{A} > 0",
    f"{A} >= {B}",
    f"{A} == {B} or {A} != {C}",
    f"not ({A} < {B} and {C} <= 1)",
    f"{A} + {B} - {C} * 2 > -{A}",
    f"{A} / {B} > {C} / 4 or {A} / ({B} - {B}) == 1",
    f"abs({A}) > min({B}, {C}) and max({A}, {B}, {C}, 0.5) < 3",
    f"prev({A}) < {A} and {B} > 0",
    f"crosses_above({A}, {B})",
    f"highest({A}, 3m) > {B} or within({C} > 1, 2m)",
    f"always({C} > 0, 2m)",
    "closes(5m) and price > 0",
    f"not closes(5m) and rank({A}) > 2",
    f"share({A} > 0) > 0.4 and {B} > 0",
    f"({B} > 0 or 1 > 2) and 2 > 1",
)
EXTREMES = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0)


def rules() -> list[Rule]:
    """Each condition in both modes, for all symbols and for some, and with a hold."""
    made = [Rule(f"plain_{at}", text, "low", mode="live") for at, text in enumerate(CONDITIONS)]
    made += [Rule(f"held_{at}", text, "low", hold_s=60) for at, text in enumerate(CONDITIONS[:3])]
    made += [Rule(f"some_{at}", text, "low", symbols=("S1", "S3")) for at, text in enumerate(CONDITIONS)]
    made += [Rule(f"close_{at}", text, "low", mode="close") for at, text in enumerate(CONDITIONS)]
    return made


def frame(rows: int, minute: int, draw: np.random.Generator) -> MetricsBatch:
    batch = metrics_batch([Row(f"S{at}", minute, closed=bool(draw.integers(2))) for at in range(rows)])
    for name in (A, "close_1m", C):
        values = draw.choice([*EXTREMES, *draw.normal(1, 1, 12)], rows)
        batch.values[:, COLUMN_POSITION[name]] = values
    return batch


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 64, 131, 1_200])
def test_compiled_rules_match_where_numpy_finds_them_true(rows: int):
    draw = np.random.default_rng(rows)
    ours, numpys = RuleBook.compile(rules(), "live"), RuleBook.compile(rules(), "live")
    assert 30 < np.count_nonzero(ours.clauses.compiled) < len(ours.rules)
    numpys.clauses.compiled[:] = False
    compiled, plain = Evaluator(ours), Evaluator(numpys)
    found = 0
    for minute in range(12):
        batch = frame(int(draw.integers(1, rows + 1)), minute, draw)
        matches, expected = compiled.evaluate(batch), plain.evaluate(batch)
        assert matches.row.tolist() == expected.row.tolist()
        assert matches.rule.tolist() == expected.rule.tolist()
        found += len(matches)
    assert found > rows


def test_an_input_that_the_compiled_loop_cannot_read_costs_its_rule_alone(monkeypatch: pytest.MonkeyPatch):
    sound, broken = Rule("sound", f"{B} > 0", "low"), Rule("broken", f"prev({B}) > 0", "low")
    evaluator = Evaluator(RuleBook.compile([sound, broken], "live"))
    assert evaluator.book.clauses.compiled.all()
    monkeypatch.setattr(PreviousValues, "exchange", lambda *_: "no numbers")
    batch = metrics_batch([Row("A", 0, {"close_1m": 1.0})])
    for _ in range(2):
        matches = evaluator.evaluate(batch)
        assert [matches.rules[at].rule_type for at in matches.rule] == ["sound"]
    assert [fault.rule.rule_type for fault in evaluator.faults] == ["broken"]


def test_the_machine_code_of_every_kernel_is_kept_by_its_source():
    root = Path(app.__file__).parent
    with_kernels = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if path.name != "compiled.py"
        and re.search(r"^@(kernel|allocating_kernel|inlined|called)$", path.read_text(), re.MULTILINE)
    ]
    assert "rules/evaluation/clauses.py" in with_kernels
    assert [name for name in with_kernels if not name.startswith(KERNEL_FOLDERS)] == []
