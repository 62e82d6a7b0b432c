"""A soak test of the feed and the pipeline: `python -m benchmarks.soak [--symbols 500] [--updates 4] [--minutes 30]`.

Method: a simulated exchange in a separate process sends UPDATES forming candles of every symbol a second, closed ones
each minute, and all its kinds of faults by schedule. Afterwards every minute that it has over REST must be on NATS
(with no value twice), in the collector's table and in the database. The cost of a minute is the feed's CPU time.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from app.local.servers.embedded import EmbeddedStack
from app.settings import Settings
from benchmarks.soak_run import Account, Soak, SoakPlan, all_faults, soak_settings


@click.command()
@click.option("--symbols", default=500, show_default=True)
@click.option("--updates", default=4.0, show_default=True, help="Of each symbol, a second.")
@click.option("--minutes", default=30.0, show_default=True, help="Of the wall clock.")
@click.option("--speed", default=1.0, show_default=True, help="Speed of simulated time.")
@click.option("--no-faults", is_flag=True)
def main(symbols: int, updates: float, minutes: float, speed: float, no_faults: bool) -> None:
    seconds = minutes * 60
    plan = SoakPlan(
        symbols, updates, seconds, speed, () if no_faults else all_faults(seconds), settle_s=300.0
    )
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="soak-"))
    console.print(f"logs in {directory}")
    with EmbeddedStack.start(directory / "stack") as stack, console.status("starting") as status:
        base = Settings.load({}, **{f"{name}_url": url for name, url in stack.urls.items()})
        soak = Soak(soak_settings(base, plan), plan, directory)
        account = asyncio.run(soak.run(status.update))
    _show(account, console)
    found = account.faults_found()
    for one in found:
        console.print(f"[red]{one}[/red]")
    sys.exit(1 if found else 0)


def _show(account: Account, console: Console) -> None:
    table = Table("what", "number")
    table.add_row("minutes that the exchange has", f"{len(account.expected):,}")
    table.add_row("of them on NATS", f"{len(account.expected.keys() & account.nats.keys()):,}")
    table.add_row("in the collector's table", f"{len(account.expected.keys() & account.table):,}")
    table.add_row("in the database", f"{len(account.expected.keys() & account.database.keys()):,}")
    for name, number in sorted(account.faults.items()):
        table.add_row(f"fault {name}", f"{number:,}")
    for name, value in sorted(account.feed.items()):
        if not name.endswith("_created"):
            table.add_row(name, f"{value:,.0f}")
    for role, seconds in account.cpu_s.items():
        table.add_row(f"CPU s of {role}", f"{seconds:,.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
