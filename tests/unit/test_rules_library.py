"""The rules to choose from: they compile, are cheap, do what their tests say, and are in force nowhere by default."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

import pytest
from click.testing import CliRunner

from app.backtest.rule_tests import load_tests, run_test
from app.cli.commands import rules as commands
from app.rules.evaluation.cost import VALUES_MAX, check_cost
from app.rules.evaluation.rulebook import RuleBook
from app.rules.files import fingerprint, library_text, load_rules, shipped_rules

RULES = load_rules(library_text())
TESTS = load_tests(library_text())
PAGE = resources.files("app.rules").joinpath("LIBRARY.md").read_text(encoding="utf-8")


def test_there_are_forty_each_one_line_with_a_sentence_that_an_alert_can_show():
    assert len(RULES) == 40
    assert all(rule.description[0].isupper() and len(rule.description) <= 160 for rule in RULES)
    assert library_text().count("\n    expression: ") == 40
    assert not RuleBook.compile([replace(rule, enabled=True) for rule in RULES], "live").faults


def test_none_is_in_force_by_default_and_none_is_shipped_to_a_database():
    assert not any(rule.enabled for rule in RULES)
    assert not RuleBook.compile(RULES, "live").rules
    assert not {rule.rule_type for rule in RULES} & {rule.rule_type for rule in shipped_rules()}


def test_all_together_with_the_shipped_ones_cost_less_than_half_of_the_bound():
    check_cost([replace(rule, enabled=True) for rule in (*RULES, *shipped_rules())], VALUES_MAX // 2)


def test_each_rule_has_a_test_in_which_it_fires_and_one_in_which_it_is_silent():
    tested = [[(rule.rule_type, bool(test.expected)) for rule in test.rules] for test in TESTS]
    assert sorted(tested) == sorted([(rule.rule_type, fires)] for rule in RULES for fires in (False, True))


@pytest.mark.parametrize("test", TESTS, ids=[test.name for test in TESTS])
def test_a_rule_does_what_its_test_says(test):
    verdict = run_test(test)
    assert verdict.passed, verdict


def test_a_stranger_prints_the_library_checks_it_and_runs_its_tests(tmp_path):
    printed = CliRunner().invoke(commands.rules_group, ["library"], catch_exceptions=False)
    file = tmp_path / "library.yaml"
    file.write_text(printed.output)
    checked = CliRunner().invoke(commands.rules_group, ["check", str(file)], catch_exceptions=False)
    assert checked.output == "40 rules, 0 of them enabled: all compile\n"
    one = printed.output[: printed.output.index("  - name: 'breakout_4h_up: the usual")]
    file.write_text(one.replace("at: 2024-01-01T04:22", "at: 2024-01-01T04:21"))
    ran = CliRunner().invoke(commands.test_rules, [str(file)], catch_exceptions=False)
    assert ran.exit_code == 1
    assert "breakout_4h_up TESTUSDT at 2024-01-01T04:22" in ran.output


def test_its_page_was_measured_for_these_rules():
    assert f"`{fingerprint(RULES)}`" in PAGE, "run `python -m benchmarks.rule_library`"
    assert all(f"| `{rule.rule_type}` | " in PAGE and f"`{rule.expression}`" in PAGE for rule in RULES)
