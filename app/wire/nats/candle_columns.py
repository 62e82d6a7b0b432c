"""Converts candles from JSON documents to columns: numbers, flags and times in any form that producers use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from app.candles.batch import MINUTE_MS, BoolArray, CandleBatch, FloatArray, IntArray
from app.candles.symbols import SYMBOL_RULE, is_symbol
from app.candles.validity import Reason

_NUMBERS = ("open", "high", "low", "close", "volume")
_NUMBER_TYPES = frozenset((int, float, str, type(None)))
_DECIMAL = re.compile(
    r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf(inity)?)", re.ASCII | re.IGNORECASE
)
_KINDS = {dict: "an object", list: "an array", str: "text", bool: "true or false", type(None): "null"}
_EPOCH = datetime.fromtimestamp(0, UTC)
_EPOCH_MS_FROM = 100_000_000_000
"""Numbers from here on are epoch milliseconds (1973 as ms, the year 5138 as seconds)."""


class InvalidCandle(Exception):
    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Candle(NamedTuple):
    position: int
    document: Any
    in_array: bool
    closed: bool
    """Whether it is closed, unless the document says otherwise."""


def candle_columns(candles: Sequence[Candle], ingest_ts_ms: int, exchange: str) -> CandleBatch:
    """Return all candles as columns; raise if any of them does not fit."""
    documents = [candle.document for candle in candles]
    symbols: dict[str, int] = {}
    index = [symbols.setdefault(document["symbol"], len(symbols)) for document in documents]
    for symbol in symbols:
        if not isinstance(symbol, str):
            raise InvalidCandle(Reason.BAD_TYPE, f"symbol is {json_kind(symbol)}, not text")
        if not is_symbol(symbol):
            raise InvalidCandle(Reason.BAD_SYMBOL, f"symbol {symbol[:40]!r} is not {SYMBOL_RULE}")
    # a symbol is a market of one exchange: two of them must not meet in its minutes
    others = {document.get("exchange", exchange) for document in documents} - {exchange, None}
    if others:
        raise InvalidCandle(
            Reason.OTHER_EXCHANGE,
            f"a candle of {str(others.pop())[:40]!r}, but this screener follows {exchange!r}",
        )
    number = {name: _floats([document[name] for document in documents]) for name in _NUMBERS}
    open_time_ms = _times([document["open_time"] for document in documents])
    closed = np.array(
        [_flag(candle.document.get("closed", candle.closed)) for candle in candles], dtype=np.bool_
    )
    quote_volume = _floats([document.get("quote_volume") for document in documents])
    estimated = np.array([document.get("quote_volume") is None for document in documents], dtype=np.bool_)
    # overflow gives infinity, which is rejected
    with np.errstate(over="ignore", invalid="ignore"):
        typical = (number["high"] + number["low"] + number["close"]) / 3
        quote_volume = np.where(estimated, number["volume"] * typical, quote_volume)
    rows = len(documents)
    return CandleBatch(
        symbols=tuple(symbols),
        symbol_index=np.array(index, dtype=np.int32),
        open_time_ms=open_time_ms,
        quote_volume=quote_volume,
        trades=_counts([document.get("number_of_trades", 0) for document in documents]),
        taker_buy_volume=_floats([document.get("taker_buy_volume") for document in documents]),
        taker_buy_quote_volume=_floats([document.get("taker_buy_quote_volume") for document in documents]),
        quote_estimated=estimated,
        closed=closed,
        event_ts_ms=_event_times(documents, open_time_ms, closed, ingest_ts_ms),
        ingest_ts_ms=np.full(rows, ingest_ts_ms, dtype=np.int64),
        exchange=exchange,
        **number,
    )


def _floats(values: list[Any]) -> FloatArray:
    """Return the values as float64: null becomes NaN, decimal text is read, anything else raises."""
    kinds = set(map(type, values))
    if not kinds <= _NUMBER_TYPES:
        wrong = next(value for value in values if type(value) not in _NUMBER_TYPES)
        raise InvalidCandle(Reason.BAD_TYPE, f"a number is given as {json_kind(wrong)}")
    if str in kinds and not all(_DECIMAL.fullmatch(value) for value in values if type(value) is str):
        raise InvalidCandle(Reason.BAD_TYPE, "a number is given as text that is not decimal")
    return np.array(values, dtype=np.float64)


def _counts(values: list[Any]) -> IntArray:
    numbers = _floats([0 if value is None else value for value in values])
    if not np.isfinite(numbers).all() or (np.abs(numbers) > 2**53).any():
        raise InvalidCandle(Reason.NOT_FINITE, "number_of_trades is not a finite number")
    if (numbers % 1 != 0).any():
        raise InvalidCandle(Reason.BAD_TYPE, "number_of_trades is not a whole number")
    return numbers.astype(np.int64)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise InvalidCandle(Reason.BAD_TYPE, f"closed is {json_kind(value)}, not true or false")
    return value


def json_kind(value: Any) -> str:
    """Return the type of a JSON value, without its content, which may be large or deeply nested."""
    return _KINDS.get(type(value), "a number")


def _times(values: list[Any]) -> IntArray:
    if all(type(value) is int and _EPOCH_MS_FROM <= value <= 2**53 for value in values):
        return np.array(values, dtype=np.int64)
    return np.array([time_ms(value) for value in values], dtype=np.int64)


def _event_times(
    documents: Sequence[Any], open_time_ms: IntArray, closed: BoolArray, ingest_ts_ms: int
) -> IntArray:
    """Return the exchange's event time; without one, the end of the minute for a closed candle, else the clock."""
    given = [document.get("event_time") for document in documents]
    fallback = np.where(closed, open_time_ms + MINUTE_MS, ingest_ts_ms)
    if all(value is None for value in given):
        return fallback
    return np.array(
        [
            int(other) if value is None else time_ms(value)
            for value, other in zip(given, fallback, strict=True)
        ],
        dtype=np.int64,
    )


def time_ms(value: Any) -> int:
    """Return UTC ms from RFC 3339 text (with an offset or Z), epoch seconds or epoch milliseconds."""
    if type(value) is int or type(value) is float:
        if not np.isfinite(value) or abs(value) > 2**53:
            raise InvalidCandle(Reason.BAD_TIME, f"time {value!r} is out of range")
        return int(value) if value >= _EPOCH_MS_FROM else round(value * 1000)
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidCandle(Reason.BAD_TIME, f"time {value[:40]!r} is not RFC 3339") from None
        if moment.tzinfo is None:
            raise InvalidCandle(Reason.BAD_TIME, f"time {value[:40]!r} has no offset from UTC")
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    raise InvalidCandle(Reason.BAD_TIME, f"time is {json_kind(value)}, not RFC 3339 text or epoch s or ms")
