"""Commands on candles: replay, record, import, screen, backtest, explain, sim-exchange."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from app.cli.commands import CANDLE_FILES, FILE, OUT_FILE, runs
from app.cli.commands.values import Moment, Speed, SymbolName, Symbols

BACKFILLED: Final = ("5m", "15m", "1h", "4h", "1d")
ROWS_PER_FILE: Final = 2_000_000

_skip_bad = click.option(
    "--skip-bad",
    is_flag=True,
    help="Leave out and count rows of files that are no valid candles [default: stop at the first].",
)


@click.command()
@click.argument("files", metavar="FILE...", type=CANDLE_FILES, nargs=-1, required=True)
@_skip_bad
@click.option("--mode", type=click.Choice(["close", "live"]), default="close", show_default=True,
              help="Evaluate rules on closed candles by open time, or on every update by event time.")  # fmt: skip
@click.option("--rules", "rules_file", type=FILE,
              help="Rules as YAML [default: the rules of the namespace, which are the shipped rules].")  # fmt: skip
@click.option("--speed", type=Speed(), default="max", show_default=True, help="Factor of real time, or max.")
@click.option("--alerts-out", type=OUT_FILE, help="Write alerts as JSON lines.")
@click.option("--candles-per-message", type=click.IntRange(1, 200), default=100, show_default=True,
              help="Candles per NATS message; with 1 each has its own message, on its symbol's subject.")  # fmt: skip
@click.option("--namespace", help="Namespace on servers given by URL [default: replay_<time>].")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path),
              help="Keep logs and data of the started servers in this folder.")  # fmt: skip
@runs("app.cli.candles.replay:replay")
def replay() -> None:
    """Play candle files, or folders of them, through the whole pipeline and report.

    Servers without a URL in the settings are started for the replay and stopped after it.
    """


@click.command()
@click.argument("file", type=OUT_FILE)
@click.option("--backlog", is_flag=True, help="Start with the candles in the stream, up to 48 hours.")
@click.option("--append", is_flag=True, help="Append to an existing FILE.")
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), help="Stop after this time [default: Ctrl-C]."
)
@click.option("--flush-s", type=click.FloatRange(1), default=30.0, show_default=True,
              help="How often the file is written; a crash loses at most this time.")  # fmt: skip
@click.option("--rows-per-file", type=click.IntRange(1_000), default=ROWS_PER_FILE, show_default=True,
              help="Continue in FILE-2 after so many candles, and so on.")  # fmt: skip
@runs("app.cli.candles.record:record")
def record() -> None:
    """Record the closed candles that go over NATS into FILE (parquet), for `screener replay` and `backtest`.

    Reads from SCREENER_NATS_URL, or from the NATS of a `screener up` in this directory. The file is readable at
    any moment, whatever happens to the recorder.
    """


@click.command("import")
@click.argument("files", metavar="FILE...", type=CANDLE_FILES, nargs=-1, required=True)
@_skip_bad
@runs("app.cli.candles.import_minutes:import_minutes")
def import_command() -> None:
    """Store the minutes of candle files, or folders of them, in the database.

    A stored minute with other values is replaced; to import a file again changes nothing. No rule is evaluated.
    """


@click.command()
@click.option("--days", type=click.IntRange(1, 10_000), default=400, show_default=True, help="How far back.")
@click.option("--intervals", type=click.Choice(BACKFILLED), multiple=True, default=BACKFILLED, show_default=True,
              help="Only bars of this length; may be repeated. Bars of 5m are two thirds of all requests.")  # fmt: skip
@click.option("--symbols", type=Symbols(), help="Only these [default: the symbols that the feed follows].")
@runs("app.cli.candles.backfill:backfill")
def backfill() -> None:
    """Fetch the exchange's own bars of many days into the database, for charts and long indicators.

    Takes half of the exchange's request budget: 500 symbols and 400 days are some five hours on Binance, the bars of
    1h and longer the first half hour. It may be stopped at any time; the next call continues.
    """


@click.command("screen")
@click.argument("where")
@click.option("--sort", help="A number to sort by, such as volume_1h.")
@click.option("--order", type=click.Choice(["asc", "desc"]), default="desc", show_default=True)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Maximum number of symbols."
)
@click.option("--url", help="URL of the sidecar [default: the sidecar of the settings].")
@click.option("--file", "files", type=CANDLE_FILES, multiple=True,
              help="Use a candle file, or a folder of them, at the last minute or --at; may be repeated.")  # fmt: skip
@_skip_bad
@click.option(
    "--at", "at_ms", type=Moment(), help="Any time within a minute of the stored history, or of --file."
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@runs("app.cli.candles.screen:screen_command")
def screen_command() -> None:
    """List symbols whose metrics satisfy WHERE, such as 'price_change_1h > 2 and rsi_14_15m < 70'.

    Uses the latest values of a running screener; with --at its database, with --file a candle file.
    """


@click.command()
@click.argument("files", metavar="[FILE...]", type=CANDLE_FILES, nargs=-1)
@_skip_bad
@click.option(
    "--from", "since_ms", type=Moment(), help="First minute; earlier minutes only fill the windows."
)
@click.option("--to", "until_ms", type=Moment(), help="End minute, exclusive.")
@click.option("--rules", "rules_file", type=FILE,
              help="Rules as YAML [default: the shipped rules; without FILE the rules of the database].")  # fmt: skip
@click.option("--symbols", type=Symbols(), help="Only these symbols, separated by commas.")
@click.option("--mode", type=click.Choice(["close", "live"]), default="close", show_default=True,
              help="Mode of rules without a mode.")  # fmt: skip
@click.option("--alerts-out", type=OUT_FILE, help="Write alerts as JSON lines.")
@click.option("--compare", "other_file", type=FILE, help="Other rules as YAML: show what they would change.")
@click.option("--report", "report_file", type=OUT_FILE, help="Write an HTML page with plots.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@runs("app.cli.candles.backtest:backtest")
def backtest() -> None:
    """Try rules on candle files, or folders of them, or on the stored history from --from to --to.

    Prints, per rule, its alerts and the returns after them, by month too, compared with random entries. With
    --compare it also counts the alerts that the other rules would add, remove and move. A year of 100 symbols takes
    minutes; memory does not grow with it.
    """


@click.command()
@click.argument("rule_type")
@click.argument("symbol", type=SymbolName())
@click.option(
    "--at",
    "at_ms",
    type=Moment(),
    help="Any time within the minute, or an alert's timestamp [default: the newest minute].",
)
@click.option("--file", "files", type=CANDLE_FILES, multiple=True,
              help="A candle file, or a folder of them; may be repeated [default: the stored history].")  # fmt: skip
@_skip_bad
@click.option("--rules", "rules_file", type=FILE,
              help="Rules as YAML [default: the rules of the database; with --file the shipped rules].")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the tree as JSON.")
@runs("app.cli.candles.explain:explain")
def explain() -> None:
    """Explain rule RULE_TYPE for SYMBOL at a minute: every clause with its value, threshold and margin.

    Only the condition is explained; a cooldown may have suppressed the alert of a true condition.
    """


@click.command("sim-exchange")
@click.option("--port", type=click.IntRange(0, 65_535), help="[default: SCREENER_SIM_EXCHANGE_PORT, 9098]")
@click.option("--symbols", type=click.IntRange(1, 5_000), help="Contracts of the simulated market.")
@click.option("--seed", type=click.IntRange(0), help="Another seed gives another market.")
@click.option("--file", "files", type=CANDLE_FILES, multiple=True,
              help="Play the candles of this file, or folder of files, instead; may be repeated.")  # fmt: skip
@_skip_bad
@click.option("--file-clock", type=click.Choice(["now", "own"]), default="now", show_default=True,
              help="now: the file's second day is today. own: the file's own time.")  # fmt: skip
@click.option("--speed", type=click.FloatRange(0.01, 100_000), default=1.0, show_default=True,
              help="Speed of simulated time.")  # fmt: skip
@click.option("--start", type=click.DateTime(), help="Simulated time (UTC) at the start; a fast market must "
              "start in the past, and runs at real speed when it reaches the present.")  # fmt: skip
@click.option("--updates-per-s", type=click.FloatRange(0.01, 50), help="Of each stream.")
@click.option("--faults", "faults_file", type=FILE, help="A YAML schedule of faults.")
@click.option("--history-days", type=click.IntRange(2, 2_000), default=90, show_default=True,
              help="Length of the candle history.")  # fmt: skip
@click.option("--weight-limit", type=click.IntRange(100), help="Request weight per minute and address.")
@click.option("--ping-s", type=click.FloatRange(0.1), default=180.0, show_default=True)
@click.option("--lifetime-s", type=click.FloatRange(1), default=86_400.0, show_default=True,
              help="Lifetime of a connection.")  # fmt: skip
@click.option("--streams", type=click.IntRange(1, 1024), default=200, show_default=True,
              help="Maximum number of streams per connection.")  # fmt: skip
@runs("app.cli.candles.sim_exchange:sim_exchange")
def sim_exchange() -> None:
    """Serve a simulated exchange that speaks the protocol of Binance USD-M futures, until Ctrl-C.

    Faults on command: POST a JSON object such as {"kind": "drop", "share": 0.5} to /sim/faults; GET /sim/state
    shows the active faults.
    """
