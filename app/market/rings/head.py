"""A minute, and a quarter up to it, as numbers that travel through a computation."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from app.compiled import inlined
from app.market.rings.layout import QUARTER
from app.market.rings.records import Candle, Minute, Quarter, Rings


class Now(NamedTuple):
    """The minute that is computed. count: 1.0 if it is known, else 0.0: sums are 0 then, high and low -inf and inf,
    open and close NaN."""

    quote: float
    known: float
    volume: float
    trades: float
    high: float
    low: float
    open: float
    close: float


class Head(NamedTuple):
    """Sums and range of a run of minutes."""

    quote: float
    known: float
    volume: float
    trades: float
    high: float
    low: float


EMPTY: Final = Head(0.0, 0.0, 0.0, 0.0, -math.inf, math.inf)


@inlined
def now_of(candle: Candle) -> Now:
    return Now(
        candle.quote, 1.0, candle.volume, candle.trades, candle.high, candle.low, candle.open, candle.close
    )


@inlined
def earlier(row: int, back: int, rows: int) -> int:
    """Return the row of a ring `back` rows before another; `back` is less than `rows`. Cheaper than a remainder."""
    return row - back if row >= back else row - back + rows


@inlined
def minute_at(rings: Rings, i: int, row: int, quote_row: int) -> Now:
    """Return the minute in these rows of the rings of minutes and of quote volumes."""
    held: Minute = rings.minutes[i, row]
    count = 1.0 if rings.known[i, quote_row] == 1 else 0.0
    quote = rings.quote[i, quote_row]
    return Now(quote, count, held.volume, held.trades, held.high, held.low, held.open, held.close)


@inlined
def minute_of(rings: Rings, i: int, minute: int) -> Now:
    """Return a minute that the rings hold."""
    return minute_at(rings, i, minute % rings.minutes.shape[1], minute % rings.quote.shape[1])


@inlined
def with_minute(head: Head, now: Now) -> Head:
    return Head(
        head.quote + now.quote,
        head.known + now.known,
        head.volume + now.volume,
        head.trades + now.trades,
        max(head.high, now.high),
        min(head.low, now.low),
    )


@inlined
def quarter_head(rings: Rings, i: int, quarter: int) -> Head:
    """Return what a quarter holds so far."""
    return quarter_at(rings, i, quarter % rings.quarters.shape[1])


@inlined
def quarter_at(rings: Rings, i: int, row: int) -> Head:
    """Return what the quarter in this row of its ring holds so far."""
    held: Quarter = rings.quarters[i, row]
    return Head(held.quote, held.known, held.volume, held.trades, held.high, held.low)


@inlined
def put_head(rings: Rings, i: int, quarter: int, head: Head) -> None:
    held: Quarter = rings.quarters[i, quarter % rings.quarters.shape[1]]
    held.quote, held.known, held.volume, held.trades = head.quote, head.known, head.volume, head.trades
    held.high, held.low = head.high, head.low


@inlined
def held_quarters(rings: Rings) -> int:
    """Return how many quarters the ring of minutes has room for."""
    rows: int = rings.minutes.shape[1]
    return rows // QUARTER
