"""`screener webhooks targets`: where alerts are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

import click
from psycopg import AsyncConnection
from rich.table import Table

from app.cli.output import show, show_json
from app.cli.servers import settings_here
from app.clock import SystemClock
from app.database.connection import connect, database_faults
from app.process.interrupts import interruptible
from app.webhooks.targets.store import NewTarget, Target, TargetStore
from app.webhooks.targets.urls import AllowedHosts

T = TypeVar("T")


def on_database(work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Return the result of `work` on an autocommit connection. Raises ServerUnreachable if the database does not
    answer."""
    postgres = settings_here().postgres()

    async def run() -> T:
        with database_faults(postgres):
            async with await connect(postgres) as connection:
                return await work(connection)

    return asyncio.run(interruptible(run()))


def _on_store(work: Callable[[TargetStore], Awaitable[T]]) -> T:
    return on_database(lambda connection: work(TargetStore(connection, SystemClock())))


def _on_target(given: str, work: Callable[[TargetStore, UUID], Awaitable[T]]) -> T:
    """Return the result of `work` on the target whose id is `given` or begins with it."""

    async def found(store: TargetStore) -> T:
        return await work(store, await store.find(given))

    return _on_store(found)


def list_targets(as_json: bool) -> None:
    if as_json:
        show_json({"targets": _on_store(TargetStore.all)})
        return
    table = Table("id", "whose", "name", "host", "format", "filter", "digest", "state", "pending", "dead")
    for target in _on_store(TargetStore.all):
        table.add_row(
            str(target.id), target.user_id or "operators", target.name, target.url, target.format, _filter(target),
            f"{target.digest_s} s" if target.digest_s else "", _state(target), str(target.pending), str(target.dead),
        )  # fmt: skip
    show(table)


def add(
    url_file: Any,
    name: str,
    form: str | None,
    rules: tuple[str, ...],
    symbols: tuple[str, ...],
    severities: tuple[str, ...],
    digest_s: int,
) -> None:
    url = url_file.read().strip() if url_file else click.prompt("URL", hide_input=True)
    allowed = AllowedHosts.of(settings_here().webhook_allowed_hosts)
    target = NewTarget(url, name, form, rules, symbols, severities, digest_s)

    async def put(store: TargetStore) -> tuple[Target, str]:
        added = await store.add(target, allowed)
        return added, await store.secret(added.id)

    added, secret = _on_store(put)
    click.echo(f"{added.id}  {added.format}  {added.url}")
    if added.format == "json":
        click.echo(f"secret: {secret}")


def remove(target: str) -> None:
    _on_target(target, TargetStore.remove)


def enable(target: str) -> None:
    _on_target(target, TargetStore.enable)


def disable(target: str) -> None:
    _on_target(target, TargetStore.switch_off)


def digest(target: str, seconds: int) -> None:
    _on_target(target, lambda store, found: store.set_digest(found, seconds))


def secret(target: str) -> None:
    click.echo(_on_target(target, TargetStore.secret))


def rotate(target: str, overlap_hours: int) -> None:
    click.echo(_on_target(target, lambda store, found: store.rotate_secret(found, overlap_hours)))


def _filter(target: Target) -> str:
    if target.user_id is not None:
        return "as the user chose"
    return ", ".join((*target.rule_types, *target.symbols, *target.severities)) or "everything"


def _state(target: Target) -> str:
    if not target.enabled:
        return f"off: {target.disabled_reason}"
    return f"failing ({target.failures})" if target.failures else "on"
