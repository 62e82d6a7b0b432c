"""Alerts in words, shared by the formats that people read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

NAME_MAX_CHARS: Final = 100
TEXT_MAX_CHARS: Final = 1_000
_CHANGES: Final = ("5m", "15m", "1h", "8h", "1d")
_VOLUMES: Final = ("5m", "1h", "1d")


def name(alert: Mapping[str, Any], field: str) -> str:
    """A symbol, rule type or severity, cut to a length no honest one has."""
    return cut(str(alert[field]), NAME_MAX_CHARS)


def description(alert: Mapping[str, Any]) -> str:
    return cut(str(alert["description"]), TEXT_MAX_CHARS)


def cut(text: str, most_chars: int) -> str:
    return text if len(text) <= most_chars else text[: most_chars - 1] + "…"


def price(alert: Mapping[str, Any]) -> str:
    return f"{alert['price']:,.10g}"


def time_of_day(alert: Mapping[str, Any]) -> str:
    """HH:MM:SS, UTC."""
    return str(alert["timestamp"])[11:19]


def changes(alert: Mapping[str, Any]) -> str:
    """`5m +1.25 %, 1h −0.50 %`: the price changes that are known; may be empty."""
    known = ((timeframe, _number(alert, f"price_change_{timeframe}")) for timeframe in _CHANGES)
    return ", ".join(f"{timeframe} {value:+.2f} %" for timeframe, value in known if value is not None)


def volumes(alert: Mapping[str, Any]) -> str:
    """`5m 1,250,000, 1h ...`: quote volumes that are known; may be empty."""
    known = ((timeframe, _number(alert, f"volume_{timeframe}")) for timeframe in _VOLUMES)
    return ", ".join(f"{timeframe} {value:,.0f}" for timeframe, value in known if value is not None)


def _number(alert: Mapping[str, Any], field: str) -> float | None:
    value = alert["metadata"].get(field)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def headline(alerts: int) -> str:
    return "1 alert" if alerts == 1 else f"{alerts} alerts"


def lines_within(most_chars: int, lines: Iterable[str], alerts: int) -> str:
    """As many of the lines, one an alert, as fit; then how many of the `alerts` they leave out."""
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
