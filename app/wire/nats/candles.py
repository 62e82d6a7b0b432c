"""The wire format of candles on NATS: JSON messages in, one columnar batch out.

A message is one candle, or an array of candles: a source may send all its candles of a moment in one message,
which costs NATS a twentieth per candle.

The common case, a whole batch of well-formed messages with times in epoch milliseconds, is parsed column by
column. Only a batch in which something does not fit is split, until the candle at fault is alone and can be named.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from app.candles.batch import CandleBatch, concatenate
from app.candles.validity import EXPLANATIONS, Reason, check
from app.wire.nats.candle_columns import Candle, InvalidCandle, candle_columns, json_kind
from app.wire.nats.rejected import FAULTS_TOLD, Refusals, Rejected

_REQUIRED = ("symbol", "open_time", "open", "high", "low", "close", "volume")
_REQUIRED_SET = frozenset(_REQUIRED)

_SPLIT_INTO = 8


@dataclass(frozen=True, slots=True)
class Parsed:
    """`batch`: the valid candles in order of arrival, None without a valid one."""

    batch: CandleBatch | None
    rejected: list[Rejected]


_UNFIT = (InvalidCandle, KeyError, TypeError, ValueError, AttributeError, OverflowError)


def parse(
    messages: Sequence[bytes],
    *,
    ingest_ts_ms: int,
    max_bytes: int,
    exchange: str,
    live: Container[int] = frozenset(),
) -> Parsed:
    """Parse the candles of `messages`; return the rejected ones with reasons. `ingest_ts_ms` is the clock, UTC ms.

    live: positions of the messages that came on a subject of forming candles. A candle that does not say whether it
    is closed counts as forming in these messages, and as closed in the others.
    """
    refusals = Refusals()
    candles = _load(messages, max_bytes, live, refusals)
    parts = list(_sound_parts(candles, ingest_ts_ms, exchange, refusals))
    if not parts:
        return Parsed(None, refusals.all())
    kept = [candle for sound, _ in parts for candle in sound]
    batch = parts[0][1] if len(parts) == 1 else concatenate([part for _, part in parts])
    valid = _drop_invalid(batch, kept, refusals, ingest_ts_ms)
    return Parsed(valid if len(valid) else None, refusals.all())


def _sound_parts(
    candles: list[Candle], ingest_ts_ms: int, exchange: str, refusals: Refusals
) -> Iterator[tuple[list[Candle], CandleBatch]]:
    """Yield (candles, batch) of all valid candles, in order; split an invalid batch until the fault is alone."""
    if not candles:
        return
    try:
        batch = candle_columns(candles, ingest_ts_ms, exchange)
    except _UNFIT as error:
        if len(candles) == 1:
            refusals.add_candle(candles[0], *_name_fault(candles[0], error))
            return
        step = -(-len(candles) // _SPLIT_INTO)
        for start in range(0, len(candles), step):
            yield from _sound_parts(candles[start : start + step], ingest_ts_ms, exchange, refusals)
    else:
        yield candles, batch


def _load(
    messages: Sequence[bytes], max_bytes: int, live: Container[int], refusals: Refusals
) -> list[Candle]:
    """Return the candles of the messages that are JSON. A candle that is no object with the required fields is rejected
    here already: an array may hold hundreds of thousands of them."""
    candles: list[Candle] = []
    for index, data in enumerate(messages):
        if len(data) > max_bytes:
            text = f"{len(data)} bytes; the limit is {max_bytes} (SCREENER_MESSAGE_MAX_BYTES)"
            refusals.add(index, Reason.TOO_LARGE, text)
            continue
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            refusals.add(index, Reason.NOT_JSON, f"not JSON: {error}")
            continue
        if document == []:
            refusals.add(index, Reason.BAD_TYPE, "an array without a candle")
            continue
        in_array, closed = type(document) is list, index not in live
        unfit = []
        for element in document if in_array else (document,):
            if type(element) is dict and element.keys() >= _REQUIRED_SET:
                candles.append(Candle(index, element, in_array, closed))
            else:
                unfit.append(element)
        for element in unfit[:FAULTS_TOLD]:
            refusals.add_candle(Candle(index, element, in_array, closed), *_unfit(element))
        others = unfit[FAULTS_TOLD:]
        objects = sum(type(element) is dict for element in others)
        refusals.count(index, {Reason.MISSING_FIELD: objects, Reason.BAD_TYPE: len(others) - objects})
    return candles


def _unfit(element: Any) -> tuple[Reason, str]:
    if type(element) is not dict:
        return Reason.BAD_TYPE, f"a candle is {json_kind(element)}, not a JSON object"
    missing = ", ".join(name for name in _REQUIRED if name not in element)
    return Reason.MISSING_FIELD, f"missing: {missing}"


def _name_fault(candle: Candle, error: Exception) -> tuple[Reason, str]:
    if isinstance(error, InvalidCandle):
        return error.reason, str(error)
    return Reason.BAD_TYPE, f"a field has an invalid type: {str(error)[:200]}"


def _drop_invalid(batch: CandleBatch, candles: list[Candle], refusals: Refusals, now_ms: int) -> CandleBatch:
    faults = check(batch, now_ms)
    if not faults:
        return batch
    good = np.ones(len(batch), dtype=np.bool_)
    for mask, reason in faults:
        good &= ~mask
        for row in np.flatnonzero(mask).tolist():
            refusals.add_candle(candles[row], reason, EXPLANATIONS[reason])
    return batch.take(good)
