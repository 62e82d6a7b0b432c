"""The `screener` command and its subcommands."""

from __future__ import annotations

import os
import sys

import click

from app.cli.commands.candles import (
    backfill,
    backtest,
    explain,
    import_command,
    record,
    replay,
    screen_command,
    sim_exchange,
)
from app.cli.commands.machine import (
    backup,
    dead_letters,
    drop_namespace_command,
    migrate_command,
    restore,
    run,
    servers,
    token,
    up,
)
from app.cli.commands.rules import fields, rules_group, test_rules
from app.cli.commands.webhooks import webhooks
from app.errors import Interrupted, ScreenerError
from app.process.exit_status import EXIT_CONFIG, EXIT_TEMPORARY

EXIT_INTERRUPTED = 130
"""As a shell reports SIGINT."""
EXIT_PIPE = 141
"""As a shell reports SIGPIPE."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="screener")
def screener() -> None:
    """Real-time screener of perpetual futures. Settings are SCREENER_* variables; see the README."""


for command in (
    up, replay, rules_group, screen_command, backtest, explain, test_rules, fields, sim_exchange, record,
    import_command, backfill, webhooks, dead_letters, token, servers,
    run, migrate_command, backup, restore, drop_namespace_command
):  # fmt: skip
    screener.add_command(command)


def main() -> None:
    """Run the command. A known error ends it with a message instead of a traceback: status 75 if retrying can help,
    else 78."""
    try:
        screener(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except Interrupted as interrupted:
        sys.exit(interrupted.status)
    except BrokenPipeError:
        # the reader of our output has gone, as `head` does: no more can be written, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_PIPE)
    except ScreenerError as error:
        click.echo(f"screener: {error}", err=True)
        sys.exit(EXIT_TEMPORARY if error.retryable else EXIT_CONFIG)
