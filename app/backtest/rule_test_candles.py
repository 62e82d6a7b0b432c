"""Candles written by hand: stretches of minutes, as the tests of rules describe them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.candles.symbols import plain_symbol
from app.candles.validity import EXPLANATIONS, check
from app.errors import RuleError

MINUTES_AT_MOST = 100_000
"""Most minutes of all symbols of one test together."""

_STRETCH = {"minutes", "close", "quote_volume"}
_MINUTE = {"open", "high", "low", "close", "quote_volume"}


@dataclass(frozen=True, slots=True)
class _Minute:
    minute: int
    open: float
    high: float
    low: float
    close: float
    quote_volume: float


def candles_of(symbols: object, start_ms: int) -> CandleBatch:
    """Closed candles of all symbols, in order of time. `symbols`: symbol -> list of stretches.

    Raises RuleError saying which stretch of which symbol cannot be read.
    """
    if not isinstance(symbols, dict) or not symbols:
        raise RuleError("`candles` needs at least one symbol with its stretches")
    batches = []
    total = 0
    for symbol, stretches in symbols.items():
        if not isinstance(stretches, list) or not stretches:
            raise RuleError(f"the candles of {str(symbol)[:80]} must be a list of stretches")
        minutes = _minutes(str(symbol), stretches, MINUTES_AT_MOST - total)
        total += len(minutes)
        if minutes:
            batches.append(_batch(_plain(symbol), minutes, start_ms))
    if not batches:
        raise RuleError("there is no candle")
    if len({batch.symbols for batch in batches}) < len(batches):
        raise RuleError("one symbol has candles under two spellings")
    together = concatenate(batches)
    for _, reason in check(together, int(together.open_time_ms.max())):
        raise RuleError(f"invalid candle: {EXPLANATIONS[reason]}")
    return together.take(np.argsort(together.open_time_ms, kind="stable"))


def _plain(symbol: object) -> str:
    found = plain_symbol(str(symbol))
    if found is None:
        raise RuleError(f"{str(symbol)[:80]!r} cannot name a symbol")
    return found


def _minutes(symbol: str, stretches: list[object], at_most: int) -> list[_Minute]:
    found: list[_Minute] = []
    minute, close = 0, math.nan
    for at, stretch in enumerate(stretches, start=1):
        where = f"stretch {at} of {symbol[:80]}"
        if not isinstance(stretch, dict):
            raise RuleError(f"{where} is not a mapping")
        if set(stretch) == {"gap"}:
            minute += _count(stretch, "gap", where)
            continue
        length = _count(stretch, "minutes", where) if "minutes" in stretch else 1
        if len(found) + length > at_most:
            raise RuleError(f"{where}: more than {MINUTES_AT_MOST} candles in one test")
        if set(stretch) == _STRETCH:
            found += _straight(stretch, where, minute, length, close)
        elif set(stretch) == _MINUTE:
            found.append(_whole(stretch, where, minute))
        else:
            raise RuleError(
                f"{where} needs minutes, close, quote_volume; or one minute's open to close; or gap"
            )
        minute += length
        close = found[-1].close
    return found


def _whole(stretch: Mapping[str, object], where: str, minute: int) -> _Minute:
    found = _Minute(minute, **{name: _number(stretch, name, where) for name in _MINUTE})
    if not found.low <= min(found.open, found.close) <= max(found.open, found.close) <= found.high:
        raise RuleError(f"{where}: open and close must lie between low and high")
    return found


def _straight(
    stretch: Mapping[str, object], where: str, minute: int, length: int, close: float
) -> list[_Minute]:
    """Return equal steps from the previous close to the stretch's close; flat without a previous close."""
    target = _number(stretch, "close", where)
    quote_volume = _number(stretch, "quote_volume", where)
    closes = [close, *np.linspace(target if math.isnan(close) else close, target, length + 1)[1:].tolist()]
    closes[0] = closes[1] if math.isnan(close) else close
    return [
        _Minute(minute + step, before, max(before, after), min(before, after), after, quote_volume)
        for step, (before, after) in enumerate(pairwise(closes))
    ]


def _count(stretch: Mapping[str, object], name: str, where: str) -> int:
    value = stretch[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MINUTES_AT_MOST:
        raise RuleError(f"{where}: {name} must be a whole number from 1 to {MINUTES_AT_MOST}")
    return value


def _number(stretch: Mapping[str, object], name: str, where: str) -> float:
    value = stretch[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise RuleError(f"{where}: {name} must be a number of at least 0")
    if name != "quote_volume" and value == 0:
        raise RuleError(f"{where}: {name} must be above 0")
    return float(value)


def _batch(symbol: str, minutes: list[_Minute], start_ms: int) -> CandleBatch:
    rows = len(minutes)
    close = np.array([minute.close for minute in minutes], np.float64)
    quote_volume = np.array([minute.quote_volume for minute in minutes], np.float64)
    open_time_ms = start_ms + MINUTE_MS * np.array([minute.minute for minute in minutes], np.int64)
    return CandleBatch(
        symbols=(symbol,),
        symbol_index=np.zeros(rows, np.int32),
        open_time_ms=open_time_ms,
        open=np.array([minute.open for minute in minutes], np.float64),
        high=np.array([minute.high for minute in minutes], np.float64),
        low=np.array([minute.low for minute in minutes], np.float64),
        close=close,
        volume=quote_volume / close,
        quote_volume=quote_volume,
        trades=np.ones(rows, np.int64),
        taker_buy_volume=np.full(rows, np.nan),
        taker_buy_quote_volume=np.full(rows, np.nan),
        quote_estimated=np.zeros(rows, np.bool_),
        closed=np.ones(rows, np.bool_),
        event_ts_ms=open_time_ms + MINUTE_MS,
        ingest_ts_ms=open_time_ms + MINUTE_MS,
    )
