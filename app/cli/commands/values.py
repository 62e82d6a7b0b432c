"""Values on the command line: times, durations, symbols, ids, speeds."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import click

from app.candles.symbols import plain_symbol
from app.times import utc_ms
from app.webhooks.short_ids import bounds

_DURATION: Final = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST_S: Final = 366 * 86_400


class Duration(click.ParamType):
    """A duration such as 30m, 12h or 7d, converted to seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _DURATION.fullmatch(str(value))
        seconds = int(found[1]) * _UNIT_S[found[2]] if found else 0
        if not 0 < seconds <= _LONGEST_S:
            self.fail(
                f"{value!r} is not a duration; write for example 30m, 12h or 7d, at most 366 days", param, ctx
            )
        return seconds


class Moment(click.ParamType):
    """A time as RFC 3339 text, UTC unless it says otherwise, converted to UTC ms."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        # here: it needs NumPy, which help does not
        from app.candles.validity import is_time

        if isinstance(value, int):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time; write for example 2024-01-01T00:05:00Z", param, ctx)
        moment_ms = utc_ms(moment)
        if not is_time(moment_ms):
            self.fail(f"{value!r} is not from 2010 to 2100", param, ctx)
        return moment_ms


class SymbolName(click.ParamType):
    """One symbol in any spelling, converted to the spelling of candles."""

    name = "symbol"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        symbol = plain_symbol(str(value))
        if symbol is None:
            self.fail(
                f"{str(value)[:80]!r} is not a symbol; a symbol looks like BTCUSDT or BTC/USDT:USDT",
                param,
                ctx,
            )
        return symbol


class Symbols(click.ParamType):
    """Symbols separated by commas, each in any spelling."""

    name = "symbols"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        one = SymbolName()
        return tuple(one.convert(part, param, ctx) for part in str(value).split(",") if part.strip())


class Id(click.ParamType):
    """A whole id, or a beginning of it that no other id has."""

    name = "id"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            bounds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class Speed(click.ParamType):
    """A factor of real time; None for max."""

    name = "N|max"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if value in (None, "max"):
            return None
        try:
            speed = float(str(value))
        except ValueError:
            speed = 0.0
        if not 0 < speed < 1e6:
            self.fail(f"{value!r} is not `max` and not a factor above 0", param, ctx)
        return speed
