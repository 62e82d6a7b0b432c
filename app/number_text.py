"""Numbers as people read them: 5,005,610 and 0.00004123, never 5.00561e+06."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Final

NULL_TEXT: Final = "–"


def number_text(value: float | None, digits: int = 6, *, signed: bool = False) -> str:
    """Format as en-US, with thousands separators and `digits` significant digits, but never cut the integer part;
    – for null. signed: with a plus before values above 0."""
    if value is None or math.isnan(value):
        return NULL_TEXT
    if math.isinf(value):
        return f"{'+' if signed and value > 0 else '-' if value < 0 else ''}∞"
    decimals = 0 if value == 0 else max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:{'+' if signed and value else ''},.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "+0") else text


def plain_digits(value: float) -> str:
    """Return all digits that tell the number from every other one, without an exponent or separators."""
    text = format(Decimal(repr(value)), "f")
    return text.removesuffix(".0")
