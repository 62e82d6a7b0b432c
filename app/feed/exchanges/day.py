"""The 24 h summary of a symbol in the exchange's own digits: read if the exchange sends it, computed if it does not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from app.candles.intervals import DAY_MS
from app.wire.tickers import ExchangeDay

_NUMBER: Final = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?", re.ASCII)
_UNTOLD: Final = "0"
"""Stands for a quantity that the exchange does not send: readers expect a number."""


def told_day(one: Mapping[str, Any], keys: tuple[str, ...]) -> ExchangeDay | None:
    """Return the summary in a message that has all of its fields; None for any other message.

    keys: the exchange's names of the fields of ExchangeDay, in their order.
    """
    try:
        values = [one[key] for key in keys]
        day: list[Any] = [*map(_digits, values[:-3]), *map(int, values[-3:])]
        return ExchangeDay(*day)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def computed_day(
    *,
    last_price: object,
    open_price: object,
    high: object,
    low: object,
    volume: object,
    quote_volume: object,
    close_time_ms: int,
) -> ExchangeDay | None:
    """Return the summary computed from these values; None if one of them is not a number. The last quantity and the
    number of trades are 0."""
    try:
        last, first = _digits(last_price), _digits(open_price)
        base, quote = _digits(volume), _digits(quote_volume)
        change = Decimal(last) - Decimal(first)
        percent = change / Decimal(first) * 100 if Decimal(first) else Decimal(0)
        average = Decimal(quote) / Decimal(base) if Decimal(base) else Decimal(last)
        return ExchangeDay(
            price_change=format(change, "f"),
            price_change_pct=f"{percent:.3f}",
            weighted_average=f"{average:.{_decimals(last)}f}",
            last_price=last,
            last_quantity=_UNTOLD,
            open=first,
            high=_digits(high),
            low=_digits(low),
            volume=base,
            quote_volume=quote,
            open_time_ms=close_time_ms - DAY_MS,
            close_time_ms=close_time_ms,
            trades=0,
        )
    except (TypeError, ValueError):
        return None


def _digits(value: object) -> str:
    """Return the text of a number as it is written. Raises ValueError for any other value."""
    text = value if isinstance(value, str) else repr(value)
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not a number")
    return text


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])
