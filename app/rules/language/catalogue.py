"""All that an expression may name, as one list for people; and the tables of LANGUAGE.md made of it.

`python -m app.rules.language.catalogue` writes them into the page, between the marks `<!-- name -->`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from app.market.fields import ELSEWHERE, EVERYWHERE, FIELD_OF_SINGLE
from app.market.timeframes import TIMEFRAMES
from app.rules.language.call_nodes import SOURCES
from app.rules.language.functions import INDICATORS, OVER_TIME, TABLE, RuleFunction
from app.rules.language.names import ALIASES


@dataclass(frozen=True, slots=True)
class Entry:
    """name: as it is written. null: when the value is null."""

    name: str
    unit: str
    meaning: str
    null: str


FIELDS: Final = tuple(
    Entry(f"{field.name}_TIMEFRAME", field.unit, field.meaning, f"unless known: {field.whole}")
    for field in EVERYWHERE
)
COLUMNS: Final = tuple(
    Entry(column, field.unit, field.meaning, f"unless known: {field.whole}")
    for column, field in FIELD_OF_SINGLE.items()
)
SHORT_NAMES: Final = tuple(
    Entry(name, "", f"alias of `{column}`", "as that") for name, column in ALIASES.items()
)
FUNCTIONS: Final = tuple(
    Entry(function.signature, "", function.meaning, function.null or "an argument is null")
    for function in TABLE
)
UNITS: Final = tuple(sorted({field.unit for field in (*EVERYWHERE, *ELSEWHERE)}))


def matching(word: str = "") -> list[Entry]:
    """Return the entries that have the word in their name or meaning; all without one."""
    wanted = word.lower()
    entries = (*FIELDS, *COLUMNS, *SHORT_NAMES, *FUNCTIONS)
    return [entry for entry in entries if wanted in entry.name.lower() or wanted in entry.meaning.lower()]


def _rows(entries: Sequence[Entry]) -> str:
    head = "| name | unit | value | null |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{entry.name}` | {entry.unit} | {entry.meaning} | {entry.null} |\n" for entry in entries
    )


def _functions(functions: Sequence[RuleFunction]) -> str:
    head = "| function | value | null |\n|---|---|---|\n"
    return head + "".join(
        f"| `{one.signature}` | {one.meaning} | {one.null or 'an argument is null'} |\n" for one in functions
    )


def tables() -> dict[str, str]:
    """Return the tables of the page by the name of their mark."""
    over_time, indicators = set(OVER_TIME), set(INDICATORS)
    return {
        "timeframes": f"`{' '.join(TIMEFRAMES)}`\n",
        "fields": _rows(FIELDS),
        "columns": _rows(COLUMNS),
        "aliases": _rows(SHORT_NAMES),
        "functions": _functions([one for one in TABLE if one not in over_time | indicators]),
        "over time": _functions(OVER_TIME),
        "indicators": _functions(INDICATORS),
        "sources": f"`{' '.join(SOURCES)}`\n",
        "units": "".join(f"- {unit}\n" for unit in UNITS),
    }


def with_tables(page: str) -> str:
    """Return the page with its tables as the code has them now."""
    for name, table in tables().items():
        before, mark, rest = page.partition(f"<!-- {name} -->\n")
        page = f"{before}{mark}{table}{rest[rest.index('<!-- / -->') :]}"
    return page


if __name__ == "__main__":
    path = Path(str(resources.files("app.rules").joinpath("LANGUAGE.md")))
    path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
