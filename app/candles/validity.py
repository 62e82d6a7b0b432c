"""When a candle is valid, for all rows of a batch at once.

Checks run in the order of `Reason`; the first that fails names the fault.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Final, Protocol

import numpy as np

from app.candles.batch import MINUTE_MS, BoolArray, CandleBatch, FloatArray, IndexArray, IntArray
from app.candles.symbols import are_symbols, is_symbol


class Reason(StrEnum):
    """Every reason for which a candle is refused: the label of the metric and of the dead letter."""

    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    MISSING_FIELD = "missing_field"
    BAD_TYPE = "bad_type"
    BAD_SYMBOL = "bad_symbol"
    OTHER_EXCHANGE = "other_exchange"
    BAD_TIME = "bad_time"
    NOT_FINITE = "not_finite"
    PRICE_NOT_POSITIVE = "price_not_positive"
    NEGATIVE = "negative"
    HIGH_LOW = "high_low"
    MISALIGNED = "misaligned"
    FUTURE = "future"
    TOO_MANY_SYMBOLS = "too_many_symbols"


EXPLANATIONS: Final[dict[Reason, str]] = {
    Reason.BAD_TIME: "the open time or the event time is before 2010, or one of them or the time first seen after 2100",
    Reason.NOT_FINITE: "a price or volume is not a finite number",
    Reason.PRICE_NOT_POSITIVE: "a price is not above zero",
    Reason.NEGATIVE: "a volume or the trade count is below zero",
    Reason.HIGH_LOW: "low <= min(open, close) <= max(open, close) <= high is false",
    Reason.MISALIGNED: "the open time is not a whole minute (UTC)",
    Reason.FUTURE: "the open time is more than one minute ahead of the clock, or the event time or the time it was "
    "first seen more than two",
}
"""The text of each reason in a dead letter."""

EARLIEST_MS: Final = 1_262_304_000_000
LATEST_MS: Final = 4_102_444_800_000
"""2010-01-01 and 2100-01-01 UTC: no candle's time is outside, by any clock. All readers of candles, metrics, alerts
or reports of gaps check times against these bounds; readers with a clock also against the clock (`check`)."""


class Timed(Protocol):
    """Rows of candles or metrics."""

    @property
    def symbols(self) -> tuple[str, ...]: ...
    @property
    def symbol_index(self) -> IndexArray: ...
    @property
    def open_time_ms(self) -> IntArray: ...
    @property
    def event_ts_ms(self) -> IntArray: ...
    @property
    def ingest_ts_ms(self) -> IntArray: ...


def is_time(time_ms: int) -> bool:
    """Return whether a time (UTC ms) can be one of a candle."""
    return EARLIEST_MS <= time_ms < LATEST_MS


def times_within_bounds(rows: Timed) -> BoolArray:
    """Return (rows,): whether open and event time of a row are within the bounds. The time it was first seen may be
    anything from 0 to the upper bound, since a candle file does not know it and says 0."""
    earliest = np.minimum(rows.open_time_ms, rows.event_ts_ms)
    latest = np.maximum(np.maximum(rows.open_time_ms, rows.event_ts_ms), rows.ingest_ts_ms)
    within: BoolArray = (earliest >= EARLIEST_MS) & (latest < LATEST_MS) & (rows.ingest_ts_ms >= 0)
    return within


def check_rows(rows: Timed) -> list[tuple[BoolArray, Reason]]:
    """Check symbol and times of each row, without a clock. For readers of frames, whose
    writer has checked the rest."""
    found = []
    good = np.ones(len(rows.symbol_index), dtype=np.bool_)
    rules = [
        (times_within_bounds(rows), Reason.BAD_TIME),
        (rows.open_time_ms % MINUTE_MS == 0, Reason.MISALIGNED),
    ]
    if not are_symbols(rows.symbols):
        named = np.array([is_symbol(symbol) for symbol in rows.symbols], dtype=np.bool_)
        rules.insert(0, (named[rows.symbol_index], Reason.BAD_SYMBOL))
    for ok, reason in rules:
        if not ok.all():
            found.append((good & ~ok, reason))
            good &= ok
    return [(mask, reason) for mask, reason in found if mask.any()]


def _finite(batch: CandleBatch) -> BoolArray:
    ok: BoolArray = np.isfinite(batch.open)
    for column in (batch.high, batch.low, batch.close, batch.volume, batch.quote_volume):
        ok &= np.isfinite(column)
    for column in (batch.taker_buy_volume, batch.taker_buy_quote_volume):
        ok &= ~np.isinf(column)
    return ok


def _not_negative(column: FloatArray) -> BoolArray:
    # NaN stands for a null taker volume, which is allowed
    ok: BoolArray = ~(column < 0)
    return ok


def is_future(batch: CandleBatch, now_ms: int) -> BoolArray:
    """Return (rows,): whether the open time is more than a minute ahead of the clock, or the event time or the time
    first seen more than two minutes. An event time ahead of all others would hold the cooldown of its symbol for
    ever."""
    latest_ms = np.maximum(batch.event_ts_ms, batch.ingest_ts_ms)
    ahead: BoolArray = (batch.open_time_ms > now_ms + MINUTE_MS) | (latest_ms > now_ms + 2 * MINUTE_MS)
    return ahead


def check(batch: CandleBatch, now_ms: int) -> list[tuple[BoolArray, Reason]]:
    """Return, for each reason, the mask (rows,) of the rows whose first fault it is.

    An empty list means that every row is valid. `now_ms` is the clock, UTC ms.
    """
    with np.errstate(invalid="ignore"):
        rules: list[tuple[BoolArray, Reason]] = [
            (times_within_bounds(batch), Reason.BAD_TIME),
            (_finite(batch), Reason.NOT_FINITE),
            (
                (batch.low > 0) & (batch.open > 0) & (batch.close > 0) & (batch.high > 0),
                Reason.PRICE_NOT_POSITIVE,
            ),
            (
                (batch.volume >= 0)
                & (batch.quote_volume >= 0)
                & (batch.trades >= 0)
                & _not_negative(batch.taker_buy_volume)
                & _not_negative(batch.taker_buy_quote_volume),
                Reason.NEGATIVE,
            ),
            (
                (batch.low <= np.minimum(batch.open, batch.close))
                & (np.maximum(batch.open, batch.close) <= batch.high),
                Reason.HIGH_LOW,
            ),
            (batch.open_time_ms % MINUTE_MS == 0, Reason.MISALIGNED),
            (~is_future(batch, now_ms), Reason.FUTURE),
        ]
    found = []
    good = np.ones(len(batch), dtype=np.bool_)
    for ok, reason in rules:
        first_fault = good & ~ok
        if first_fault.any():
            found.append((first_fault, reason))
            good &= ok
    return found


def valid_rows(batch: CandleBatch, now_ms: int) -> tuple[CandleBatch, Counter[Reason]]:
    """Return the valid candles, and how many are invalid, by reason. `now_ms` is the clock, UTC ms."""
    faults = check(batch, now_ms)
    if not faults:
        return batch, Counter()
    invalid = np.logical_or.reduce([mask for mask, _ in faults])
    return batch.take(~invalid), Counter({reason: int(np.count_nonzero(mask)) for mask, reason in faults})
