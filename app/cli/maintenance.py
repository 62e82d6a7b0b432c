"""`screener migrate`, `backup DIR`, `restore DIR` and `drop-namespace NAME`: an operator's work on stored data."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from rich.console import Console

from app.backup.backup import back_up, bring_back
from app.backup.manifest import Manifest
from app.cli.servers import settings_here
from app.clock import SystemClock
from app.database.migrate import migrate
from app.errors import SettingsError
from app.local.run_servers import started_servers
from app.process.interrupts import interruptible
from app.replay.namespace import drop_namespace
from app.settings import Settings


def migrate_command() -> None:
    settings = settings_here()
    applied = migrate(settings.postgres())
    click.echo("\n".join(applied) if applied else "the schema is up to date")


def backup(directory: Path) -> None:
    settings = settings_here()
    if settings.postgres_url is None and not (settings.data_dir / "postgres").exists():
        raise SettingsError(
            "no database to back up: set SCREENER_POSTGRES_URL and the URLs of the other servers, or run "
            "this in the directory of a `screener up`"
        )
    with Console(stderr=True).status("backing up"), started_servers(settings, settings.data_dir) as servers:
        manifest = asyncio.run(interruptible(back_up(servers.settings.servers(), directory, SystemClock())))
    click.echo(f"backed up to {directory}: {_contents(manifest)}")


def restore(directory: Path, overwrite: bool) -> None:
    settings = Settings.load()
    with Console(stderr=True).status("restoring"), started_servers(settings, settings.data_dir) as servers:
        manifest = asyncio.run(
            interruptible(bring_back(servers.settings.servers(), directory, overwrite=overwrite))
        )
    click.echo(f"restored from {directory}: {_contents(manifest)}")


def _contents(manifest: Manifest) -> str:
    messages = manifest.stream.messages if manifest.stream else 0
    rows = ", ".join(f"{count:,} {table}" for table, count in manifest.rows.items() if count)
    return f"rows: {rows or 'none'}; {messages:,} messages; {manifest.keys:,} keys"


def drop_namespace_command(name: str) -> None:
    settings = Settings.load(namespace=name)
    asyncio.run(interruptible(drop_namespace(settings.servers(), settings.data_dir)))
    click.echo(f"nothing is left of {name}")
