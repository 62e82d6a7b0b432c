"""Commands on webhooks: deliveries, and the targets they go to."""

from __future__ import annotations

from typing import Final

import click

from app.cli.commands import runs
from app.cli.commands.values import Id, SymbolName

# Equal to the values of app.webhooks and app.rules, which tests check: importing them would import NumPy and psycopg.
STATUSES: Final = ("pending", "delivered", "dead")
FORMATS: Final = ("discord", "json", "slack", "telegram")
SEVERITIES: Final = ("critical", "high", "medium", "low", "info")
OVERLAP_HOURS: Final = 24


@click.group()
def webhooks() -> None:
    """List deliveries of webhooks, send them again, and manage targets."""


@webhooks.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="Only these.")
@click.option("--target", type=Id(), help="Only deliveries of this target.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@runs("app.cli.webhooks.commands:list_deliveries")
def list_deliveries() -> None:
    """List the newest deliveries."""


@webhooks.command("show")
@click.argument("delivery", type=Id())
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@runs("app.cli.webhooks.commands:show_delivery")
def show_delivery() -> None:
    """Show DELIVERY with every attempt."""


@webhooks.command()
@click.argument("deliveries", type=Id(), nargs=-1)
@click.option("--dead", is_flag=True, help="All dead deliveries.")
@click.option("--target", type=Id(), help="With --dead: only deliveries of this target.")
@runs("app.cli.webhooks.commands:redeliver")
def redeliver() -> None:
    """Send DELIVERIES again with the same ids, delivered or not; their retries start again."""


@webhooks.command()
@click.argument("target", type=Id())
@runs("app.cli.webhooks.commands:test")
def test() -> None:
    """Send TARGET one test message from this machine and print its answer."""


@webhooks.group()
def targets() -> None:
    """Manage webhook targets: list, add, enable, disable, secrets."""


@targets.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@runs("app.cli.webhooks.targets:list_targets")
def list_targets() -> None:
    """List all targets, users' targets included. URLs may contain secrets, so only their hosts are shown."""


@targets.command()
@click.option(
    "--url-file", type=click.File(), help="A file with the URL, - for stdin [default: asks for it]."
)
@click.option("--name", default="", help="For people.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="[default: by the URL]")
@click.option("--rule", "rules", multiple=True, help="Only this rule_type; may be repeated.")
@click.option(
    "--symbol", "symbols", multiple=True, type=SymbolName(), help="Only this symbol; may be repeated."
)
@click.option("--severity", "severities", multiple=True, type=click.Choice(SEVERITIES),
              help="Only this severity; may be repeated.")  # fmt: skip
@click.option("--digest", "digest_s", type=int, default=0, metavar="SECONDS",
              help="One message for all alerts of so many seconds, for example 60.")  # fmt: skip
@runs("app.cli.webhooks.targets:add")
def add() -> None:
    """Add a target of the operators and print its id and secret.

    The URL is not an argument: other users of the machine could read it in the list of processes.
    """


@targets.command()
@click.argument("target", type=Id())
@click.confirmation_option(prompt="Delete it with all its deliveries?")
@runs("app.cli.webhooks.targets:remove")
def remove() -> None:
    """Delete TARGET, one of the operators', with its deliveries."""


@targets.command()
@click.argument("target", type=Id())
@runs("app.cli.webhooks.targets:enable")
def enable() -> None:
    """Enable TARGET; its waiting messages are sent."""


@targets.command()
@click.argument("target", type=Id())
@runs("app.cli.webhooks.targets:disable")
def disable() -> None:
    """Disable TARGET, an operator's; its waiting messages are kept."""


@targets.command()
@click.argument("target", type=Id())
@click.argument("seconds", type=int)
@runs("app.cli.webhooks.targets:digest")
def digest() -> None:
    """Collect the alerts for TARGET for so many SECONDS; 0 sends each at once."""


@targets.command()
@click.argument("target", type=Id())
@runs("app.cli.webhooks.targets:secret")
def secret() -> None:
    """Print the secret that the receiver of TARGET verifies signatures with."""


@targets.command()
@click.argument("target", type=Id())
@click.option("--overlap-hours", type=click.IntRange(0, 24 * 30), default=OVERLAP_HOURS, show_default=True,
              help="How long messages also carry the signature of the old secret.")  # fmt: skip
@runs("app.cli.webhooks.targets:rotate")
def rotate() -> None:
    """Give TARGET a new secret and print it."""
