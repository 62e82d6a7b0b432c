"""`screener rules`: the rules of a screener, seen and changed; running workers follow within a second."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import click
import orjson

from app.cli.rule_sets import no_such_rule, rule_named, rules_of, with_rule_store
from app.cli.settings_here import settings_here
from app.database.rule_store import Applied, RuleStore
from app.rules.files import dump_rules
from app.rules.rule import Rule

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("rules")
def rules_group() -> None:
    """Rules in the screener's database: list, show, apply, enable, disable, delete."""


@rules_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON, with what is wrong with bad ones.")
def list_rules(as_json: bool) -> None:
    """All rules with their expressions, and what is wrong with rules that plain SQL put in."""
    stored = with_rule_store(settings_here(), RuleStore.load)
    if as_json:
        document = {"rules": [asdict(rule) for rule in stored.rules], "refused": dict(stored.refused)}
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return
    width = max((len(rule.rule_type) for rule in stored.rules), default=0)
    for rule in stored.rules:
        click.echo(
            f"{'on ' if rule.enabled else 'off'}  {rule.rule_type:{width}}  {', '.join(_manner(rule))}"
        )
        click.echo(f"     {' '.join(rule.expression.split())}")
    for fault in stored.refused.values():
        click.echo(f"refused: {fault}")


def _manner(rule: Rule) -> list[str]:
    manner = [rule.severity, f"cooldown {rule.cooldown_s} s", f"version {rule.version}"]
    if rule.hold_s:
        manner.append(f"holds {rule.hold_s} s")
    if rule.mode is not None:
        manner.append(f"mode {rule.mode}")
    if rule.symbols is not None:
        few = ", ".join(rule.symbols[:3])
        manner.append(f"only {few}" + (f" and {len(rule.symbols) - 3} more" if len(rule.symbols) > 3 else ""))
    return manner


@rules_group.command()
@click.argument("rule_types", nargs=-1)
def show(rule_types: tuple[str, ...]) -> None:
    """RULE_TYPES as YAML that `apply` takes; all rules if none is named."""
    stored = with_rule_store(settings_here(), RuleStore.load)
    for rule_type in rule_types:
        if fault := stored.refused.get(rule_type):
            raise click.ClickException(fault)
    chosen = [rule_named(stored.rules, name) for name in rule_types] if rule_types else stored.rules
    click.echo(dump_rules(chosen), nl=False)


@rules_group.command()
@click.argument("file", type=_FILE)
def check(file: Path) -> None:
    """Compile the rules of FILE; needs no server."""
    rules = rules_of(file)
    click.echo(f"{len(rules)} rules, {sum(rule.enabled for rule in rules)} of them enabled: all compile")


@rules_group.command()
@click.argument("file", type=_FILE)
@click.option("--prune", is_flag=True, help="Remove every rule that is not in FILE.")
@click.option("--dry-run", is_flag=True, help="Tell what would change, and change nothing.")
def apply(file: Path, prune: bool, dry_run: bool) -> None:
    """Bring the rules of FILE (YAML) into force, all of them or, if one is faulty, none.

    A rule whose meaning changes gets the next version by itself.
    """
    rules = rules_of(file)
    applied = with_rule_store(settings_here(), lambda store: store.apply(rules, prune, dry_run))
    _print_applied(applied)
    if dry_run:
        click.echo("nothing was changed (--dry-run)")


def _print_applied(applied: Applied) -> None:
    for word, names in asdict(applied).items():
        if names:
            click.echo(f"{word:>9}: {', '.join(names)}")
    if not any(asdict(applied).values()):
        click.echo("there are no rules in the file, and nothing has changed")


@rules_group.command()
@click.argument("rule_types", nargs=-1, required=True)
def enable(rule_types: tuple[str, ...]) -> None:
    """Switch RULE_TYPES on."""
    _each(rule_types, lambda store, name: store.enable(name, True), "enabled")


@rules_group.command()
@click.argument("rule_types", nargs=-1, required=True)
def disable(rule_types: tuple[str, ...]) -> None:
    """Switch RULE_TYPES off."""
    _each(rule_types, lambda store, name: store.enable(name, False), "disabled")


@rules_group.command()
@click.argument("rule_types", nargs=-1, required=True)
def delete(rule_types: tuple[str, ...]) -> None:
    """Delete RULE_TYPES; shipped rules stay deleted when the screener is upgraded."""
    _each(rule_types, RuleStore.delete, "deleted")


def _each(rule_types: Sequence[str], change: Callable[[RuleStore, str], Awaitable[bool]], done: str) -> None:
    """Changes each rule, or none if one of them does not exist."""

    async def changed(store: RuleStore) -> None:
        stored = await store.load()
        known = [*(rule.rule_type for rule in stored.rules), *stored.refused]
        for rule_type in rule_types:
            if rule_type not in known:
                raise no_such_rule(rule_type, known)
        for rule_type in rule_types:
            await change(store, rule_type)

    with_rule_store(settings_here(), changed)
    click.echo(f"{done}: {', '.join(rule_types)}")
