"""`screener drop-namespace`: everything of a namespace off the servers."""

from __future__ import annotations

import asyncio

import click

from app.replay.clean_up import drop_namespace
from app.settings import Settings


@click.command("drop-namespace")
@click.argument("name")
@click.confirmation_option(prompt="Delete its candles, metrics, alerts and topics for good?")
def drop_namespace_command(name: str) -> None:
    """Delete all that the namespace NAME has on the servers given by URL: its NATS stream, Kafka topics and
    groups, Redis keys and database schema. Stop its roles before."""
    settings = Settings.load(namespace=name)
    settings.server_urls()
    asyncio.run(drop_namespace(settings))
    click.echo(f"nothing is left of {name}")
