"""`screener backup DIR` and `screener restore DIR`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from rich.console import Console

from app.backup.manifest import Manifest
from app.backup.run import back_up, bring_back
from app.clock import SystemClock
from app.servers import started_servers
from app.settings import Settings


@click.command("backup")
@click.argument("directory", type=click.Path(path_type=Path))
def backup(directory: Path) -> None:
    """Write the database, the candle stream and the cooldowns to DIRECTORY, which must not exist.

    Roles may run meanwhile. Servers without a URL are those of `screener up`, which must not run then.
    """
    settings = Settings.load()
    with Console(stderr=True).status("backing up"), started_servers(settings, settings.data_dir) as servers:
        manifest = asyncio.run(back_up(servers.settings, directory, SystemClock()))
    click.echo(f"backed up to {directory}: {_contents(manifest)}")


@click.command("restore")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--overwrite", is_flag=True, help="Replace what is there; otherwise anything there is refused.")
def restore(directory: Path, overwrite: bool) -> None:
    """Bring back what `screener backup` wrote to DIRECTORY. Stop every role before.

    Servers without a URL are those of `screener up`.
    """
    settings = Settings.load()
    with Console(stderr=True).status("restoring"), started_servers(settings, settings.data_dir) as servers:
        manifest = asyncio.run(bring_back(servers.settings, directory, overwrite=overwrite))
    click.echo(f"restored from {directory}: {_contents(manifest)}")


def _contents(manifest: Manifest) -> str:
    messages = manifest.stream["state"]["messages"] if manifest.stream else 0
    rows = ", ".join(f"{count:,} {table}" for table, count in manifest.rows.items() if count)
    return f"rows: {rows or 'none'}; {messages:,} messages; {manifest.keys:,} keys"
