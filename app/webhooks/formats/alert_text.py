"""Alerts in words, shared by the formats that people read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from app.number_text import number_text
from app.rules.alert import Alert

NAME_MAX_CHARS: Final = 100
TEXT_MAX_CHARS: Final = 1_000
_CHANGES: Final = ("5m", "15m", "1h", "8h", "1d")
_VOLUMES: Final = ("5m", "1h", "1d")


def name(text: str) -> str:
    """Return a symbol, rule type or severity, cut to a length that no genuine one has."""
    return cut(text, NAME_MAX_CHARS)


def description(alert: Alert) -> str:
    return cut(alert.description, TEXT_MAX_CHARS)


def cut(text: str, most_chars: int) -> str:
    return text if len(text) <= most_chars else text[: most_chars - 1] + "…"


def price(alert: Alert) -> str:
    return number_text(alert.price, 10)


def time_of_day(alert: Alert) -> str:
    """HH:MM:SS, UTC."""
    return alert.timestamp[11:19]


def changes(alert: Alert) -> str:
    """`5m +1.25 %, 1h −0.50 %`: the price changes that are known; may be empty."""
    known = ((timeframe, _number(alert, f"price_change_{timeframe}")) for timeframe in _CHANGES)
    return ", ".join(f"{timeframe} {value:+,.2f} %" for timeframe, value in known if value is not None)


def volumes(alert: Alert) -> str:
    """`5m 1,250,000, 1h ...`: quote volumes that are known; may be empty."""
    known = ((timeframe, _number(alert, f"volume_{timeframe}")) for timeframe in _VOLUMES)
    return ", ".join(f"{timeframe} {value:,.0f}" for timeframe, value in known if value is not None)


def _number(alert: Alert, field: str) -> float | None:
    value = alert.metadata.get(field)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def headline(alerts: int) -> str:
    return "1 alert" if alerts == 1 else f"{alerts} alerts"


def lines_within(most_chars: int, lines: Iterable[str], alerts: int) -> str:
    """Return as many lines, one per alert, as fit; then the number of omitted `alerts`."""
    fitting: list[str] = []
    chars = 0
    for line in lines:
        chars += len(line) + 1
        if chars > most_chars:
            break
        fitting.append(line)
    if alerts > len(fitting):
        fitting.append(f"and {alerts - len(fitting)} more")
    return "\n".join(fitting)
