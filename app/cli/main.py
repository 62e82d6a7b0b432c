"""The `screener` command and its subcommands."""

from __future__ import annotations

import sys

import click

from app.cli.backtest import backtest
from app.cli.backup import backup, restore
from app.cli.drop_namespace import drop_namespace_command
from app.cli.explain import explain
from app.cli.record import record
from app.cli.replay import replay
from app.cli.roles import migrate_command, run
from app.cli.rule_tests import test_rules
from app.cli.rules import rules_group
from app.cli.screen import screen_command
from app.cli.sim_exchange import sim_exchange
from app.cli.up import up
from app.cli.webhooks import webhooks
from app.errors import ScreenerError
from app.exit_status import EXIT_CONFIG, EXIT_TEMPORARY


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="screener")
def screener() -> None:
    """Real-time screener of perpetual futures. Settings are SCREENER_* variables; see the README."""


for command in (
    up, replay, rules_group, screen_command, backtest, explain, test_rules, sim_exchange, record, webhooks,
    run, migrate_command, backup, restore, drop_namespace_command
):  # fmt: skip
    screener.add_command(command)


def main() -> None:
    """Errors we know end with their words, not with a traceback: status 75 if trying again can help, else 78."""
    try:
        screener(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except ScreenerError as error:
        click.echo(f"screener: {error}", err=True)
        sys.exit(EXIT_TEMPORARY if error.retryable else EXIT_CONFIG)
