"""`screener webhooks`: the outbox and its targets, for operators."""

from __future__ import annotations

from typing import get_args
from uuid import UUID

import click
from psycopg import AsyncConnection
from rich.console import Console
from rich.table import Table

from app.cli.webhook_targets import on_database, targets
from app.clock import SystemClock
from app.errors import ScreenerError
from app.settings import Settings
from app.webhooks.delivery_log import Attempt, Delivery, DeliveryLog, Status
from app.webhooks.post import Answer, webhook_client
from app.webhooks.sender import send
from app.webhooks.targets import AllowedHosts
from app.webhooks.trial import trial_message


class NotTaken(ScreenerError):
    """A target did not take the message it was tried with."""

    reason = "webhook_not_taken"
    retryable = True


@click.group()
def webhooks() -> None:
    """Webhooks: what was sent where, what was not, and sending it again."""


webhooks.add_command(targets)


@webhooks.command("list")
@click.option("--status", type=click.Choice(get_args(Status)), help="Only these.")
@click.option("--target", type=click.UUID, help="Only of this target.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
def list_deliveries(status: Status | None, target: UUID | None, limit: int) -> None:
    """The newest deliveries."""

    async def read(_: Settings, connection: AsyncConnection) -> list[Delivery]:
        return await DeliveryLog(connection, SystemClock()).newest(limit, target, status)

    table = Table("id", "target", "seq", "symbol", "rule", "status", "attempts", "last", "next")
    for one in on_database(read):
        table.add_row(
            str(one.id), str(one.target_id), str(one.seq), one.symbol, one.rule_type, one.status, str(one.attempts),
            _last(one), str(one.due_at or ""),
        )  # fmt: skip
    Console().print(table)


@webhooks.command()
@click.argument("delivery", type=click.UUID)
def show(delivery: UUID) -> None:
    """DELIVERY with every attempt that was made."""

    async def read(_: Settings, connection: AsyncConnection) -> tuple[Delivery, list[Attempt]]:
        return await DeliveryLog(connection, SystemClock()).get(delivery)

    found, attempts = on_database(read)
    click.echo(f"alert    {found.alert_id} (seq {found.seq}): {found.rule_type} for {found.symbol}")
    click.echo(f"target   {found.target_id}")
    click.echo(f"message  {'gathers' if found.message_id is None else f'msg_{found.message_id.hex}'}")
    click.echo(f"status   {found.status}" + (f", next attempt {found.due_at}" if found.due_at else ""))
    for one in attempts:
        status = one.response_status or "no answer"
        click.echo(f"  {one.at}  attempt {one.attempt}: {one.outcome} ({status}) after {one.duration_ms} ms")


@webhooks.command()
@click.argument("deliveries", type=click.UUID, nargs=-1)
@click.option("--dead", is_flag=True, help="All that was given up.")
@click.option("--target", type=click.UUID, help="With --dead: only of this target.")
def redeliver(deliveries: tuple[UUID, ...], dead: bool, target: UUID | None) -> None:
    """Send DELIVERIES again under their ids, whatever became of them; their retries begin anew."""
    if bool(deliveries) == dead or (target and not dead):
        raise click.UsageError("name deliveries, or give --dead, with --target if you like")

    async def change(_: Settings, connection: AsyncConnection) -> int:
        log = DeliveryLog(connection, SystemClock())
        return await (log.redeliver_dead(target) if dead else log.redeliver(deliveries))

    click.echo(f"{on_database(change)} to be sent again")


@webhooks.command()
@click.argument("target", type=click.UUID)
def test(target: UUID) -> None:
    """Send TARGET a test message from here, once, and say what it answered."""
    clock = SystemClock()

    async def attempt(settings: Settings, connection: AsyncConnection) -> Answer:
        message = await trial_message(connection, target, clock)
        allowed = AllowedHosts.of(settings)
        async with webhook_client(allowed, settings.webhook_timeout_s, clock, connections=1) as client:
            return await send(client, message, clock.now_ms())

    answer = on_database(attempt)
    words = f"{answer.outcome} ({answer.status or 'no answer'}) after {answer.duration_ms} ms"
    if not answer.delivered:
        raise NotTaken(f"the target did not take it: {words}")
    click.echo(words)


def _last(delivery: Delivery) -> str:
    return " ".join(str(part) for part in (delivery.response_status, delivery.error) if part is not None)
