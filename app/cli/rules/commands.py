"""`screener rules`: the rules of a screener, seen and changed; running workers follow within a second."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import click
import orjson

from app.cli.rules.rule_files import no_such_rule, rule_named, rules_of
from app.cli.rules.stored_rules import with_rule_store
from app.cli.servers import settings_here
from app.database.rule_store import Applied, RuleStore
from app.rules.files import dump_rules
from app.rules.rule import Rule


def list_rules(as_json: bool) -> None:
    stored = with_rule_store(settings_here().postgres(), RuleStore.load)
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
    if rule.shadow:
        manner.append("shadow")
    if rule.mode is not None:
        manner.append(f"mode {rule.mode}")
    if rule.symbols is not None:
        few = ", ".join(rule.symbols[:3])
        manner.append(f"only {few}" + (f" and {len(rule.symbols) - 3} more" if len(rule.symbols) > 3 else ""))
    return manner


def show(rule_types: tuple[str, ...]) -> None:
    stored = with_rule_store(settings_here().postgres(), RuleStore.load)
    for rule_type in rule_types:
        if fault := stored.refused.get(rule_type):
            raise click.ClickException(fault)
    chosen = [rule_named(stored.rules, name) for name in rule_types] if rule_types else stored.rules
    click.echo(dump_rules(chosen), nl=False)


def apply(file: Path, prune: bool, dry_run: bool) -> None:
    rules, settings = rules_of(file), settings_here()
    applied = with_rule_store(
        settings.postgres(), lambda store: store.apply(rules, prune, dry_run), settings.rules_values_max
    )
    _print_applied(applied)
    if dry_run:
        click.echo("nothing was changed (--dry-run)")


def _print_applied(applied: Applied) -> None:
    for word, names in asdict(applied).items():
        if names:
            click.echo(f"{word:>9}: {', '.join(names)}")
    if not any(asdict(applied).values()):
        click.echo("the file has no rules, and nothing has changed")


def enable(rule_types: tuple[str, ...]) -> None:
    _each(rule_types, lambda store, name: store.enable(name, True), "enabled")


def disable(rule_types: tuple[str, ...]) -> None:
    _each(rule_types, lambda store, name: store.enable(name, False), "disabled")


def delete(rule_types: tuple[str, ...]) -> None:
    _each(rule_types, RuleStore.delete, "deleted")


def _each(rule_types: Sequence[str], change: Callable[[RuleStore, str], Awaitable[bool]], done: str) -> None:
    """Change each rule, or none if one of them does not exist."""

    async def changed(store: RuleStore) -> None:
        stored = await store.load()
        known = [*(rule.rule_type for rule in stored.rules), *stored.refused]
        for rule_type in rule_types:
            if rule_type not in known:
                raise no_such_rule(rule_type, known)
        for rule_type in rule_types:
            await change(store, rule_type)

    settings = settings_here()
    with_rule_store(settings.postgres(), changed, settings.rules_values_max)
    click.echo(f"{done}: {', '.join(rule_types)}")
