"""The names an expression may use for metric columns, and suggestions for unknown names."""

from __future__ import annotations

import difflib
from typing import Final

from app.errors import RuleError
from app.market.fields import COLUMN_POSITION, FIELDS, METRIC_COLUMNS
from app.market.timeframes import TIMEFRAMES
from app.rules.language.functions import FUNCTIONS
from app.rules.language.lexer import fault

ALIASES: Final[dict[str, str]] = {
    **{f"volume_{timeframe}": f"quote_volume_{timeframe}" for timeframe in TIMEFRAMES},
    "price": "close_1m",
    "close": "close_1m",
    "open": "open_1m",
    "high": "high_1m",
    "low": "low_1m",
    "volume": "quote_volume_1m",
}
"""Names besides the columns themselves. Traders say volume and mean turnover in the quote asset."""

FIELD_NAMES: Final[tuple[str, ...]] = tuple(ALIASES) + METRIC_COLUMNS
"""Every name that `resolve` knows."""


def resolve(name: str, position: int = 0) -> str:
    """Return the metric column of `name`. Raises RuleError with a suggestion."""
    column = ALIASES.get(name, name)
    if column in COLUMN_POSITION:
        return column
    raise _unknown(name, position)


def nearest(name: str, known: tuple[str, ...]) -> list[str]:
    """Return up to three known names that look like `name`, best first."""
    return difflib.get_close_matches(name[:64].lower(), known, n=3, cutoff=0.6)


def _unknown(name: str, position: int) -> RuleError:
    shown = name[:64]
    lowered = name.lower()
    if lowered in COLUMN_POSITION or lowered in ALIASES:
        return fault(f"unknown name `{shown}`; names are lower case: `{lowered}`", position)
    if lowered in FUNCTIONS:
        return fault(f"`{lowered}` is a function; write `{lowered}(...)`", position)
    if lowered in FIELDS:
        return fault(f"`{shown}` needs a timeframe, such as `{lowered}_15m`", position)
    field, _, timeframe = lowered.rpartition("_")
    if (field in FIELDS or field == "volume") and timeframe not in TIMEFRAMES:
        known = ", ".join(TIMEFRAMES)
        return fault(f"`{shown}`: unknown timeframe `{timeframe}`; known are {known}", position)
    guesses = nearest(name, FIELD_NAMES + FUNCTIONS)
    advice = f"did you mean `{'`, `'.join(guesses)}`?" if guesses else "LANGUAGE.md lists them"
    return fault(f"unknown metric `{shown}`; {advice}", position)
