"""Commands on the processes, servers and data of a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from app.cli.commands import runs
from app.cli.commands.values import Duration

# Equal to the roles of app.pipeline, which a test checks: importing them would import every library.
ROLES: Final = (
    "exchange", "feed", "bridge", "market", "sinks", "webhooks", "sidecar", "collector", "calculator", "alerts", "all"
)  # fmt: skip


@click.command()
@click.option("--symbols", type=click.IntRange(1, 5_000), help="Number of symbols, simulated or live.")
@click.option("--live", is_flag=True, help="Use candles of the real exchange (SCREENER_EXCHANGE).")
@click.option(
    "--no-feed", is_flag=True, help="Start no exchange and no feed: other producers send candles over NATS."
)
@runs("app.cli.up:up")
def up() -> None:
    """Start everything: servers (those without a URL), a simulated exchange, feed, workers, database
    writer, webhooks, API.

    Prints URLs, then a line of figures. Ctrl-C stops every process.
    """


@click.command("run")
@click.argument("role", type=click.Choice(ROLES))
@runs("app.cli.roles:run")
def run() -> None:
    """Run one ROLE of the pipeline against servers given by URL, until SIGTERM or Ctrl-C."""


@click.command("servers")
@click.option("--secrets", is_flag=True, help="Full URLs, with user and password.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@runs("app.cli.servers:servers")
def servers() -> None:
    """Print where NATS, Kafka, Redis and PostgreSQL listen: the servers of the settings, or of the `screener up` here.

    `screener servers --secrets` gives URLs that other programs can use.
    """


@click.command("token")
@click.option("--role", type=click.Choice(["user", "admin"]), default="user", show_default=True,
              help="An admin may change rules.")  # fmt: skip
@click.option("--sub", default="me", show_default=True, metavar="NAME", help="User of the token.")
@click.option(
    "--expires", "expires_s", type=Duration(), default="1d", show_default=True, help="Such as 30m, 12h, 7d."
)
@runs("app.cli.token:token")
def token() -> None:
    """Print a token for the API, as `Authorization: Bearer TOKEN`.

    Signed with SCREENER_JWT_SECRET, or with the secret that `screener up` made in its data directory.
    """


@click.command("dead-letters")
@click.option("--reason", help="Only dead letters with this reason, for example bad_time.")
@click.option("--follow", is_flag=True, help="Then print new dead letters until Ctrl-C.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="The newest.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object per line, with the whole original message."
)
@runs("app.cli.dead_letters:dead_letters")
def dead_letters() -> None:
    """List invalid input: when, at which stage, why, its source and its first bytes."""


@click.command("migrate")
@runs("app.cli.maintenance:migrate_command")
def migrate_command() -> None:
    """Bring the database's schema to this version, as its owner."""


@click.command("backup")
@click.argument("directory", type=click.Path(path_type=Path))
@runs("app.cli.maintenance:backup")
def backup() -> None:
    """Write the database, the candle stream and the cooldowns to DIRECTORY, which must not exist.

    Roles may run meanwhile. Servers without a URL are those of a `screener up` in this directory, running or not.
    """


@click.command("restore")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--overwrite", is_flag=True, help="Replace existing data; without it the restore stops at existing data."
)
@runs("app.cli.maintenance:restore")
def restore() -> None:
    """Restore the backup in DIRECTORY. Stop every role before.

    Servers without a URL are those of `screener up`.
    """


@click.command("drop-namespace")
@click.argument("name")
@click.confirmation_option(prompt="Delete its candles, metrics, alerts and topics for good?")
@runs("app.cli.maintenance:drop_namespace_command")
def drop_namespace_command() -> None:
    """Delete everything of the namespace NAME on the servers given by URL: its NATS stream, Kafka topics and
    groups, Redis keys and database schema. Stop its roles before."""
