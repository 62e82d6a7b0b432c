"""When a candle is valid, for all rows of a batch at once.

Checks run in the order of `Reason`; the first that fails names the fault.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import numpy as np

from app.candles.batch import MINUTE_MS, BoolArray, CandleBatch, FloatArray


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


EXPLANATIONS: Final[dict[Reason, str]] = {
    Reason.BAD_TIME: "the open time is not after 1970-01-01",
    Reason.NOT_FINITE: "a price or volume is not a finite number",
    Reason.PRICE_NOT_POSITIVE: "a price is not above zero",
    Reason.NEGATIVE: "a volume or the trade count is below zero",
    Reason.HIGH_LOW: "low <= min(open, close) <= max(open, close) <= high does not hold",
    Reason.MISALIGNED: "the open time is not a whole minute (UTC)",
    Reason.FUTURE: "the open time is more than one minute ahead of the clock, or the event time more than two",
}
"""What each reason found in the values themselves says in a dead letter."""

SYMBOL_PATTERN: Final = r"^[A-Z0-9][A-Z0-9_.\-]{0,31}$"
"""Symbols a candle may carry: they become NATS subjects, Redis keys and metric labels."""


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


def check(batch: CandleBatch, now_ms: int) -> list[tuple[BoolArray, Reason]]:
    """For each reason that applies to some row: the mask (rows,) of the rows it is the first fault of.

    An empty list means that every row is valid. `now_ms` is the clock, UTC ms.
    """
    with np.errstate(invalid="ignore"):
        rules: list[tuple[BoolArray, Reason]] = [
            (batch.open_time_ms > 0, Reason.BAD_TIME),
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
            (
                # an event time ahead of all others would hold the cooldown of its symbol for ever
                (batch.open_time_ms <= now_ms + MINUTE_MS) & (batch.event_ts_ms <= now_ms + 2 * MINUTE_MS),
                Reason.FUTURE,
            ),
        ]
    found = []
    good = np.ones(len(batch), dtype=np.bool_)
    for ok, reason in rules:
        first_fault = good & ~ok
        if first_fault.any():
            found.append((first_fault, reason))
            good &= ok
    return found
