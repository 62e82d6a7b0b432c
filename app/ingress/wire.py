"""The wire format of candles on NATS: JSON messages in, one columnar batch out.

A message is one candle, or an array of candles: whatever a source sends at once may travel in one message,
which costs the way through NATS a twentieth a candle.

The common case, a whole batch of well-formed messages with times in epoch milliseconds, is parsed column by
column. Only when something in a batch does not fit is each message looked at alone, to name the one at fault.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import orjson

from app.candles.batch import MINUTE_MS, BoolArray, CandleBatch, FloatArray, IntArray, concatenate
from app.candles.validity import EXPLANATIONS, SYMBOL_PATTERN, Reason, check

_SYMBOL = re.compile(SYMBOL_PATTERN)
_REQUIRED = ("symbol", "open_time", "open", "high", "low", "close", "volume")
_NUMBERS = ("open", "high", "low", "close", "volume")
_NUMBER_TYPES = frozenset((int, float, str, type(None)))
_DECIMAL = re.compile(
    r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf(inity)?)", re.ASCII | re.IGNORECASE
)
_KINDS = {dict: "an object", list: "an array", str: "text", bool: "true or false", type(None): "null"}
_EPOCH = datetime.fromtimestamp(0, UTC)
_EPOCH_MS_FROM = 100_000_000_000
"""Numbers from here on are epoch milliseconds (1973 as ms, the year 5138 as seconds)."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """`index`: position of the message in what was parsed. `element`: the candle's own JSON if the message is
    an array of which others may be good, else None: then it is the message that is refused."""

    index: int
    reason: Reason
    message: str
    element: bytes | None = None


@dataclass(frozen=True, slots=True)
class Parsed:
    """`batch`: the valid candles in order of arrival, None if there is none."""

    batch: CandleBatch | None
    rejected: list[Rejected]


class _Fault(Exception):
    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


_UNFIT = (_Fault, KeyError, TypeError, ValueError, AttributeError, OverflowError)


class _Candle(NamedTuple):
    position: int
    document: Any
    in_array: bool
    closed: bool
    """Unless the document says otherwise."""

    def rejected(self, reason: Reason, message: str) -> Rejected:
        return Rejected(self.position, reason, message, self._element() if self.in_array else None)

    def _element(self) -> bytes | None:
        """None for what is nested deeper than JSON is written again, though it was read."""
        try:
            return orjson.dumps(self.document)
        except orjson.JSONEncodeError:
            return None


def parse(
    messages: Sequence[bytes],
    *,
    ingest_ts_ms: int,
    max_bytes: int,
    exchange: str,
    live: Container[int] = frozenset(),
) -> Parsed:
    """Candles of `messages`, each refused one with its reason. `ingest_ts_ms` is the clock, UTC ms.

    live: positions of the messages that came on a subject of forming candles. A candle of theirs that does not
    say whether it is closed is not; any other is.
    """
    candles, rejected = _load(messages, max_bytes, live)
    parts = list(_sound_parts(candles, ingest_ts_ms, exchange, rejected))
    if not parts:
        return Parsed(None, rejected)
    kept = [candle for sound, _ in parts for candle in sound]
    batch = parts[0][1] if len(parts) == 1 else concatenate([part for _, part in parts])
    return _drop_invalid(batch, kept, rejected, ingest_ts_ms)


def _sound_parts(
    candles: list[_Candle], ingest_ts_ms: int, exchange: str, rejected: list[Rejected]
) -> Iterator[tuple[list[_Candle], CandleBatch]]:
    """(candles, batch) of all that fit, in order; halves what does not until the fault is alone."""
    if not candles:
        return
    try:
        batch = _columns(candles, ingest_ts_ms, exchange)
    except _UNFIT as error:
        if len(candles) == 1:
            rejected.append(_name_fault(candles[0], error))
            return
        half = len(candles) // 2
        yield from _sound_parts(candles[:half], ingest_ts_ms, exchange, rejected)
        yield from _sound_parts(candles[half:], ingest_ts_ms, exchange, rejected)
    else:
        yield candles, batch


def _load(
    messages: Sequence[bytes], max_bytes: int, live: Container[int]
) -> tuple[list[_Candle], list[Rejected]]:
    """Each candle of the messages that are JSON."""
    candles: list[_Candle] = []
    rejected: list[Rejected] = []
    for index, data in enumerate(messages):
        if len(data) > max_bytes:
            text = f"{len(data)} bytes; a message may have {max_bytes} (SCREENER_MESSAGE_MAX_BYTES)"
            rejected.append(Rejected(index, Reason.TOO_LARGE, text))
            continue
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            rejected.append(Rejected(index, Reason.NOT_JSON, f"not JSON: {error}"))
            continue
        if document == []:
            rejected.append(Rejected(index, Reason.BAD_TYPE, "an array without a candle"))
        elif type(document) is list:
            closed = index not in live
            candles += [_Candle(index, element, True, closed) for element in document]
        else:
            candles.append(_Candle(index, document, False, index not in live))
    return candles, rejected


def _columns(candles: Sequence[_Candle], ingest_ts_ms: int, exchange: str) -> CandleBatch:
    """All candles as columns; raises if any one of them does not fit."""
    documents = [candle.document for candle in candles]
    symbols: dict[str, int] = {}
    index = [symbols.setdefault(document["symbol"], len(symbols)) for document in documents]
    for symbol in symbols:
        if not isinstance(symbol, str):
            raise _Fault(Reason.BAD_TYPE, f"symbol is {_kind(symbol)}, not text")
        if not _SYMBOL.fullmatch(symbol):
            raise _Fault(Reason.BAD_SYMBOL, f"symbol {symbol[:40]!r} does not match {SYMBOL_PATTERN}")
    # a symbol is a market of one exchange: two of them must not meet in its minutes
    others = {document.get("exchange", exchange) for document in documents} - {exchange, None}
    if others:
        raise _Fault(
            Reason.OTHER_EXCHANGE,
            f"a candle of {str(others.pop())[:40]!r}, this screener follows {exchange!r}",
        )
    number = {name: _floats([document[name] for document in documents]) for name in _NUMBERS}
    open_time_ms = _times([document["open_time"] for document in documents])
    closed = np.array(
        [_flag(candle.document.get("closed", candle.closed)) for candle in candles], dtype=np.bool_
    )
    quote_volume = _floats([document.get("quote_volume") for document in documents])
    estimated = np.array([document.get("quote_volume") is None for document in documents], dtype=np.bool_)
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
    """float64; null becomes NaN, decimal text is read, anything else raises."""
    kinds = set(map(type, values))
    if not kinds <= _NUMBER_TYPES:
        wrong = next(value for value in values if type(value) not in _NUMBER_TYPES)
        raise _Fault(Reason.BAD_TYPE, f"a number is given as {_kind(wrong)}")
    if str in kinds and not all(_DECIMAL.fullmatch(value) for value in values if type(value) is str):
        raise _Fault(Reason.BAD_TYPE, "a number is given as text that is not decimal")
    return np.array(values, dtype=np.float64)


def _counts(values: list[Any]) -> IntArray:
    numbers = _floats([0 if value is None else value for value in values])
    if not np.isfinite(numbers).all() or (np.abs(numbers) > 2**53).any():
        raise _Fault(Reason.NOT_FINITE, "number_of_trades is not a finite count")
    if (numbers % 1 != 0).any():
        raise _Fault(Reason.BAD_TYPE, "number_of_trades is not a whole number")
    return numbers.astype(np.int64)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _Fault(Reason.BAD_TYPE, f"closed is {_kind(value)}, not true or false")
    return value


def _kind(value: Any) -> str:
    """What a JSON value is, without its contents: they may be large or deeply nested."""
    return _KINDS.get(type(value), "a number")


def _times(values: list[Any]) -> IntArray:
    if all(type(value) is int and _EPOCH_MS_FROM <= value <= 2**53 for value in values):
        return np.array(values, dtype=np.int64)
    return np.array([time_ms(value) for value in values], dtype=np.int64)


def _event_times(
    documents: Sequence[Any], open_time_ms: IntArray, closed: BoolArray, ingest_ts_ms: int
) -> IntArray:
    """The exchange's event time; without one, the end of the minute for a closed candle, else the clock."""
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
    """UTC ms from RFC 3339 text (with an offset or Z), epoch seconds or epoch milliseconds."""
    if type(value) is int or type(value) is float:
        if not np.isfinite(value) or abs(value) > 2**53:
            raise _Fault(Reason.BAD_TIME, f"time {value!r} is out of range")
        return int(value) if value >= _EPOCH_MS_FROM else round(value * 1000)
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise _Fault(Reason.BAD_TIME, f"time {value[:40]!r} is not RFC 3339") from None
        if moment.tzinfo is None:
            raise _Fault(Reason.BAD_TIME, f"time {value[:40]!r} has no offset from UTC")
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    raise _Fault(Reason.BAD_TIME, f"time is {_kind(value)}, neither RFC 3339 text nor epoch s or ms")


def _name_fault(candle: _Candle, error: Exception) -> Rejected:
    if isinstance(error, _Fault):
        return candle.rejected(error.reason, str(error))
    if not isinstance(candle.document, dict):
        return candle.rejected(Reason.BAD_TYPE, f"a candle is {_kind(candle.document)}, not a JSON object")
    missing = [name for name in _REQUIRED if name not in candle.document]
    if missing:
        return candle.rejected(Reason.MISSING_FIELD, f"missing: {', '.join(missing)}")
    return candle.rejected(Reason.BAD_TYPE, f"a field has a type that does not fit: {str(error)[:200]}")


def _drop_invalid(
    batch: CandleBatch, candles: list[_Candle], rejected: list[Rejected], now_ms: int
) -> Parsed:
    faults = check(batch, now_ms)
    if faults:
        good = np.ones(len(batch), dtype=np.bool_)
        for mask, reason in faults:
            good &= ~mask
            rejected += [candles[row].rejected(reason, EXPLANATIONS[reason]) for row in np.flatnonzero(mask)]
        batch = batch.take(good)
    return Parsed(batch if len(batch) else None, rejected)
