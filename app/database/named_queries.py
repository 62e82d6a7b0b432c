"""SQL lives in files of named statements: `-- name: NAME` opens one, the next or the file's end closes it."""

from __future__ import annotations

import re
from importlib import resources
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def named_queries(file: str) -> dict[str, LiteralString]:
    """Return name -> statement for a file in app/database/sql. Statements are literals: our own text, never input."""
    text = resources.files("app.database").joinpath("sql", file).read_text()
    _, *parts = _NAME.split(text)
    return {
        name: cast("LiteralString", statement.strip().rstrip(";"))
        for name, statement in zip(parts[::2], parts[1::2], strict=True)
    }
