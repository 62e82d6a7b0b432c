"""Clock-aligned bars of every timeframe, as far as they have come at a minute."""

from __future__ import annotations

import math
from typing import NamedTuple

from app.compiled import inlined
from app.market.rings.head import EMPTY, Head, Now, earlier, minute_of, quarter_at, with_minute
from app.market.rings.layout import LENGTHS, SPANS
from app.market.rings.records import Rings, Symbol


class BarSoFar(NamedTuple):
    """The bar in which a minute lies, from its start to that minute. complete: no minute of it so far is missing."""

    high: float
    low: float
    complete: bool


@inlined
def five_so_far(rings: Rings, i: int, minute: int, now: Now) -> Head:
    """Return the bar of 5m, from its start to the minute."""
    head = EMPTY
    for past in range(minute - minute % 5, minute):
        head = with_minute(head, minute_of(rings, i, past))
    return with_minute(head, now)


@inlined
def prepare_bars(rings: Rings, i: int, quarter: int) -> None:
    """Compute the part of the bars of 1h and longer before a quarter, unless it is there already."""
    symbol: Symbol = rings.symbols[i]
    if symbol.bars_quarter == quarter:
        return
    symbol.bars_quarter = quarter
    rows, row = rings.quarters.shape[1], quarter % rings.quarters.shape[1]
    for longer in range(len(SPANS) - 1):
        high, low, count = -math.inf, math.inf, 0.0
        for back in range(quarter % SPANS[longer + 1], 0, -1):
            held = quarter_at(rings, i, earlier(row, back, rows))
            # NaN, of a quarter whose minutes have left the ring, stays
            high = held.high if held.high > high or math.isnan(held.high) else high
            low = held.low if held.low < low or math.isnan(held.low) else low
            count += held.known
        bar = symbol.table_bars[longer]
        bar[0], bar[1], bar[2] = high, low, count


@inlined
def bar_so_far(symbol: Symbol, timeframe: int, minute: int, now: Now, five: Head, head: Head) -> BarSoFar:
    """Return the timeframe's bar up to the minute. five, head: the bar of 5m and the quarter, up to the minute."""
    if timeframe == 0:
        return BarSoFar(now.high, now.low, now.known == 1.0)
    expected = float(minute % LENGTHS[timeframe] + 1)
    if timeframe == 1:
        return BarSoFar(five.high, five.low, five.known == expected)
    if timeframe == 2:
        return BarSoFar(head.high, head.low, head.known == expected)
    before = symbol.table_bars[timeframe - 3]
    # NaN, of a quarter whose minutes have left the ring, stays
    high = before[0] if not head.high > before[0] else head.high
    low = before[1] if not head.low < before[1] else head.low
    return BarSoFar(high, low, before[2] + head.known == expected)
