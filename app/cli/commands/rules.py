"""Commands on rules: list, show, library, check, apply, enable, disable, delete; and their tests."""

from __future__ import annotations

import click

from app.cli.commands import FILE, runs


@click.group("rules")
def rules_group() -> None:
    """Rules in the screener's database: list, show, apply, enable, disable, delete; and a library to choose from."""


@rules_group.command("list")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the rules as JSON, with the errors of invalid rules."
)
@runs("app.cli.rules.commands:list_rules")
def list_rules() -> None:
    """List all rules with their expressions, and the errors of rules inserted by plain SQL."""


@rules_group.command()
@click.argument("rule_types", nargs=-1)
@runs("app.cli.rules.commands:show")
def show() -> None:
    """Print RULE_TYPES as YAML for `apply`; without RULE_TYPES print all rules."""


@rules_group.command()
@runs("app.cli.rules.rule_files:library")
def library() -> None:
    """Print forty rules to choose from, all disabled, with their tests, as YAML for `apply`; needs no server."""


@rules_group.command()
@click.argument("file", type=FILE)
@runs("app.cli.rules.rule_files:check")
def check() -> None:
    """Compile the rules of FILE; needs no server."""


@rules_group.command()
@click.argument("file", type=FILE)
@click.option("--prune", is_flag=True, help="Remove every rule that is not in FILE.")
@click.option("--dry-run", is_flag=True, help="Show the changes without applying them.")
@runs("app.cli.rules.commands:apply")
def apply() -> None:
    """Activate the rules of FILE (YAML): all of them or, if one is invalid, none.

    A rule whose meaning changes gets the next version.
    """


@rules_group.command()
@click.argument("rule_types", nargs=-1, required=True)
@runs("app.cli.rules.commands:enable")
def enable() -> None:
    """Switch RULE_TYPES on."""


@rules_group.command()
@click.argument("rule_types", nargs=-1, required=True)
@runs("app.cli.rules.commands:disable")
def disable() -> None:
    """Switch RULE_TYPES off."""


@rules_group.command()
@click.argument("rule_types", nargs=-1, required=True)
@runs("app.cli.rules.commands:delete")
def delete() -> None:
    """Delete RULE_TYPES; shipped rules stay deleted when the screener is upgraded."""


@click.command("test-rules")
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--rules", "rules_file", type=FILE, help="Rules as YAML [default: the shipped rules].")
@runs("app.cli.rules.rule_tests:test_rules")
def test_rules() -> None:
    """Run the rule tests of the given YAML FILES; exit with status 1 if one fails."""


@click.command("fields")
@click.argument("word", default="")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@runs("app.cli.rules.fields:fields")
def fields() -> None:
    """List the metrics and functions that a rule may name, those with WORD in their name or meaning."""
