"""`screener test-rules`: the tests that users keep beside their rules."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from app.backtest.rule_tests import load_tests, run_test
from app.cli.rules.rule_files import rules_of
from app.errors import RuleError


def test_rules(files: tuple[Path, ...], rules_file: Path | None) -> None:
    rules = rules_of(rules_file)
    failed = total = 0
    for file in files:
        try:
            tests = load_tests(file.read_text(encoding="utf-8"), rules)
        except (RuleError, UnicodeDecodeError) as error:
            raise RuleError(f"{file}: {error}") from error
        for test in tests:
            verdict = run_test(test)
            total += 1
            failed += not verdict.passed
            click.echo(f"{'ok    ' if verdict.passed else 'FAILED'} {file.name}: {verdict.name}")
            for fault in verdict.raised:
                click.echo(f"         raised      {fault.rule.rule_type}: {fault.error}")
            for alert in verdict.missing:
                click.echo(f"         missing     {alert}")
            for alert in verdict.unexpected:
                click.echo(f"         unexpected  {alert}")
    click.echo(f"{total - failed} passed, {failed} failed")
    if failed:
        sys.exit(1)
