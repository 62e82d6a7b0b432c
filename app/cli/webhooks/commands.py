"""`screener webhooks`: the outbox and its targets, for operators."""

from __future__ import annotations

from uuid import UUID

import click
from psycopg import AsyncConnection
from rich.table import Table

from app.cli.output import show, show_json
from app.cli.servers import settings_here
from app.cli.webhooks.targets import on_database
from app.clock import SystemClock
from app.errors import ScreenerError
from app.webhooks.delivery.attempt import send
from app.webhooks.delivery.delivery_log import Attempt, Delivery, DeliveryLog, Status
from app.webhooks.delivery.post import Answer, webhook_client
from app.webhooks.delivery.trial import trial_message
from app.webhooks.targets.store import TargetStore
from app.webhooks.targets.urls import AllowedHosts


class NotTaken(ScreenerError):
    """A target did not accept its test message."""

    reason = "webhook_not_taken"
    retryable = True


def list_deliveries(status: Status | None, target: str | None, limit: int, as_json: bool) -> None:

    async def read(connection: AsyncConnection) -> list[Delivery]:
        of = None if target is None else await _target_id(connection, target)
        return await DeliveryLog(connection, SystemClock()).newest(limit, of, status)

    deliveries = on_database(read)
    if as_json:
        show_json({"deliveries": deliveries})
        return
    table = Table("id", "target", "seq", "symbol", "rule", "status", "attempts", "last", "next")
    for one in deliveries:
        table.add_row(
            str(one.id), str(one.target_id), str(one.seq), one.symbol, one.rule_type, one.status, str(one.attempts),
            _last(one), str(one.due_at or ""),
        )  # fmt: skip
    show(table)


def show_delivery(delivery: str, as_json: bool) -> None:

    async def read(connection: AsyncConnection) -> tuple[Delivery, list[Attempt]]:
        log = DeliveryLog(connection, SystemClock())
        return await log.get(await log.find(delivery))

    found, attempts = on_database(read)
    if as_json:
        show_json({"delivery": found, "attempts": attempts})
        return
    click.echo(f"alert    {found.alert_id} (seq {found.seq}): {found.rule_type} for {found.symbol}")
    click.echo(f"target   {found.target_id}")
    click.echo(f"message  {'gathers' if found.message_id is None else f'msg_{found.message_id.hex}'}")
    click.echo(f"status   {found.status}" + (f", next attempt {found.due_at}" if found.due_at else ""))
    for one in attempts:
        status = one.response_status or "no answer"
        click.echo(f"  {one.at}  attempt {one.attempt}: {one.outcome} ({status}) after {one.duration_ms} ms")


def redeliver(deliveries: tuple[str, ...], dead: bool, target: str | None) -> None:
    if bool(deliveries) == dead or (target and not dead):
        raise click.UsageError("give deliveries, or --dead (optionally with --target)")

    async def change(connection: AsyncConnection) -> int:
        log = DeliveryLog(connection, SystemClock())
        if not dead:
            return await log.redeliver([await log.find(given) for given in deliveries])
        return await log.redeliver_dead(None if target is None else await _target_id(connection, target))

    click.echo(f"{on_database(change)} to be sent again")


def test(target: str) -> None:
    settings, clock = settings_here(), SystemClock()
    allowed = AllowedHosts.of(settings.webhook_allowed_hosts)

    async def attempt(connection: AsyncConnection) -> Answer:
        message = await trial_message(connection, await _target_id(connection, target), clock)
        async with webhook_client(allowed, settings.webhook_timeout_s, clock, connections=1) as client:
            return await send(client, message, clock.now_ms())

    answer = on_database(attempt)
    words = f"{answer.outcome} ({answer.status or 'no answer'}) after {answer.duration_ms} ms"
    if not answer.delivered:
        raise NotTaken(f"the target did not accept it: {words}")
    click.echo(words)


async def _target_id(connection: AsyncConnection, given: str) -> UUID:
    return await TargetStore(connection, SystemClock()).find(given)


def _last(delivery: Delivery) -> str:
    return " ".join(str(part) for part in (delivery.response_status, delivery.error) if part is not None)
