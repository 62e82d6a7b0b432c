"""`screener webhooks targets`: where alerts are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, get_args
from uuid import UUID

import click
import psycopg
from psycopg import AsyncConnection
from rich.console import Console
from rich.table import Table

from app.cli.settings_here import settings_here
from app.clock import SystemClock
from app.database.connection import connection_url, unreachable
from app.rules.rule import SEVERITIES
from app.settings import Settings
from app.webhooks.formats import Format
from app.webhooks.target_store import OVERLAP_HOURS, NewTarget, Target, TargetStore

T = TypeVar("T")


def on_database(work: Callable[[Settings, AsyncConnection], Awaitable[T]]) -> T:
    """The result of `work` on an autocommit connection. Raises ServerUnreachable if the database does not answer."""
    settings = settings_here()

    async def run() -> T:
        try:
            url = connection_url(settings)
            async with await AsyncConnection.connect(url, autocommit=True) as connection:
                return await work(settings, connection)
        except psycopg.OperationalError as error:
            raise unreachable(settings, error) from error

    return asyncio.run(run())


def _on_store(work: Callable[[TargetStore], Awaitable[T]]) -> T:
    return on_database(lambda settings, connection: work(TargetStore(connection, settings, SystemClock())))


@click.group()
def targets() -> None:
    """Where alerts are sent: list, add, switch on and off, secrets."""


@targets.command("list")
def list_targets() -> None:
    """All targets, those of users included. URLs may hold secrets, so only their hosts are shown."""
    table = Table("id", "whose", "name", "host", "format", "filter", "digest", "state", "pending", "dead")
    for target in _on_store(TargetStore.all):
        table.add_row(
            str(target.id), target.user_id or "operators", target.name, target.url, target.format, _filter(target),
            f"{target.digest_s} s" if target.digest_s else "", _state(target), str(target.pending), str(target.dead),
        )  # fmt: skip
    Console().print(table)


@targets.command()
@click.option(
    "--url-file", type=click.File(), help="A file with the URL, - for stdin [default: asks for it]."
)
@click.option("--name", default="", help="For people.")
@click.option("--format", "form", type=click.Choice(get_args(Format)), help="[default: by the URL]")
@click.option("--rule", "rules", multiple=True, help="Only this rule_type; may be repeated.")
@click.option("--symbol", "symbols", multiple=True, help="Only this symbol; may be repeated.")
@click.option("--severity", "severities", multiple=True, type=click.Choice(SEVERITIES),
              help="Only this severity; may be repeated.")  # fmt: skip
@click.option("--digest", "digest_s", type=int, default=0, metavar="SECONDS",
              help="One message for all alerts of so many seconds, such as 60.")  # fmt: skip
def add(
    url_file: Any,
    name: str,
    form: Format | None,
    rules: tuple[str, ...],
    symbols: tuple[str, ...],
    severities: tuple[str, ...],
    digest_s: int,
) -> None:
    """Add a target of the operators and print its id and secret.

    The URL is not an argument: other users of the machine could read it in the list of processes.
    """
    url = url_file.read().strip() if url_file else click.prompt("URL", hide_input=True)
    target = NewTarget(url, name, form, rules, symbols, severities, digest_s)

    async def put(store: TargetStore) -> tuple[Target, str]:
        added = await store.add(target)
        return added, await store.secret(added.id)

    added, secret = _on_store(put)
    click.echo(f"{added.id}  {added.format}  {added.url}")
    if added.format == "json":
        click.echo(f"secret: {secret}")


@targets.command()
@click.argument("target", type=click.UUID)
@click.confirmation_option(prompt="Delete it with all its deliveries?")
def remove(target: UUID) -> None:
    """Delete TARGET, one of the operators', with its deliveries."""
    _on_store(lambda store: store.remove(target))


@targets.command()
@click.argument("target", type=click.UUID)
def enable(target: UUID) -> None:
    """Switch TARGET on; what waited for it is sent."""
    _on_store(lambda store: store.enable(target))


@targets.command()
@click.argument("target", type=click.UUID)
def disable(target: UUID) -> None:
    """Switch TARGET, one of the operators', off; what waits for it is kept."""
    _on_store(lambda store: store.switch_off(target))


@targets.command()
@click.argument("target", type=click.UUID)
@click.argument("seconds", type=int)
def digest(target: UUID, seconds: int) -> None:
    """Gather the alerts for TARGET for so many SECONDS; 0 sends each at once."""
    _on_store(lambda store: store.set_digest(target, seconds))


@targets.command()
@click.argument("target", type=click.UUID)
def secret(target: UUID) -> None:
    """Print the secret that the receiver of TARGET verifies signatures with."""
    click.echo(_on_store(lambda store: store.secret(target)))


@targets.command()
@click.argument("target", type=click.UUID)
@click.option("--overlap-hours", type=click.IntRange(0, 24 * 30), default=OVERLAP_HOURS, show_default=True,
              help="How long messages are signed with the old secret too.")  # fmt: skip
def rotate(target: UUID, overlap_hours: int) -> None:
    """Give TARGET a new secret and print it."""
    click.echo(_on_store(lambda store: store.rotate_secret(target, overlap_hours)))


def _filter(target: Target) -> str:
    if target.user_id is not None:
        return "as the user chose"
    return ", ".join((*target.rule_types, *target.symbols, *target.severities)) or "everything"


def _state(target: Target) -> str:
    if not target.enabled:
        return f"off: {target.disabled_reason}"
    return f"failing ({target.failures})" if target.failures else "on"
