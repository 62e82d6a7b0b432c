"""Output of commands: JSON, tables that are never cut off (a cut-off id cannot be copied into the next command), and
foreign text in a form that a terminal shows and does not obey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import orjson

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_AT_MOST_CHARS = 100_000


def show(table: Table, console: Console | None = None) -> None:
    """Print the table at its full width; a narrower terminal wraps its lines, a pipe gets them whole.

    Cells are text, never markup: `[/x]` can be a name.
    """
    # here: commands that print no table need not wait for Rich
    from rich.console import Console
    from rich.measure import Measurement

    console = console or Console(emoji=False)
    options = console.options.update(width=_AT_MOST_CHARS, markup=False)
    needed = Measurement.get(console, options, table).maximum
    if needed > console.width:
        console.width = needed
    console.print(table, markup=False)


def printable(text: str) -> str:
    """Return the text with escapes for unprintable characters, for example control sequences of terminals."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def show_json(document: Any) -> None:
    """Print the document as JSON; it may contain dataclasses, ids and times."""
    click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())
