"""`screener fields`: all that an expression may name."""

from __future__ import annotations

from dataclasses import asdict

import click
import orjson

from app.cli.output import show
from app.rules.language.catalogue import Entry, matching
from app.rules.language.names import nearest


def fields(word: str, as_json: bool) -> None:
    # here: other commands need not wait for Rich
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    found = matching(word)
    if not found:
        raise click.ClickException(f"nothing is named like `{word[:64]}`{_advice(word)}")
    if as_json:
        entries = [asdict(entry) for entry in found]
        click.echo(orjson.dumps(entries, option=orjson.OPT_INDENT_2).decode())
        return
    table = Table("name", "unit", "value", "null", box=SIMPLE_HEAD)
    for entry in found:
        table.add_row(*(Text(cell.replace("`", "")) for cell in _cells(entry)))
    show(table)


def _cells(entry: Entry) -> tuple[str, str, str, str]:
    return entry.name, entry.unit, entry.meaning, entry.null


def _advice(word: str) -> str:
    names = tuple(entry.name.partition("(")[0].removesuffix("_TIMEFRAME") for entry in matching())
    guesses = nearest(word, names)
    return f"; did you mean `{'`, `'.join(guesses)}`?" if guesses else ""
