"""What commands print of the names that others chose."""

from __future__ import annotations

import pytest
from rich.table import Table

from app.cli.output import printable, show


@pytest.mark.parametrize(
    "name", ["[/x] team", "[red]team", "[fe80::1]", ":warning: team", "a [link=x]b[/link]"]
)
def test_a_cell_of_a_table_is_shown_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name")
    table.add_row(name)
    show(table)
    assert name in capsys.readouterr().out


def test_what_a_terminal_would_obey_is_shown_as_an_escape() -> None:
    assert printable("é ü\x1b[2J\u202e\x9b\n") == "é ü\\x1b[2J\\u202e\\x9b\\n"
