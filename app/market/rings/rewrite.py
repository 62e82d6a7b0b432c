"""Writes minutes that arrive late or again into the rings, and computes the totals over them anew."""

from __future__ import annotations

import math

from app.compiled import inlined
from app.market.rings.head import EMPTY, Now, minute_of, put_head, with_minute
from app.market.rings.intake import complete_five, put_minute
from app.market.rings.layout import FIVES_IN_QUARTER, NO_MINUTE, QUARTER
from app.market.rings.records import Minute, Rings, Symbol


@inlined
def differs(rings: Rings, i: int, minute: int, now: Now) -> bool:
    """Return whether a candle differs from its known minute in the rings; false if not all rings hold the minute."""
    if minute <= rings.symbols[i].newest - rings.minutes.shape[1]:
        return False
    held: Minute = rings.minutes[i, minute % rings.minutes.shape[1]]
    return bool(
        rings.quote[i, minute % rings.quote.shape[1]] != now.quote
        or held.volume != now.volume
        or held.trades != now.trades
        or held.high != now.high
        or held.low != now.low
        or held.open != now.open
        or held.close != now.close
    )


@inlined
def rewrite(rings: Rings, i: int, minute: int, now: Now) -> None:
    """Replace a minute at or before the newest; indicators and tables must then be computed again."""
    put_minute(rings, i, minute, now)
    summarise_quarter(rings, i, minute // QUARTER)
    symbol: Symbol = rings.symbols[i]
    symbol.table_quarter = symbol.bars_quarter = symbol.five_bar = NO_MINUTE
    mark_changed(symbol, minute)


@inlined
def mark_changed(symbol: Symbol, minute: int) -> None:
    """Remember that a minute changed after the indicators may have seen it."""
    if symbol.dirty_from == NO_MINUTE or minute < symbol.dirty_from:
        symbol.dirty_from = minute
    symbol.origin = min(symbol.origin, minute)


@inlined
def summarise_quarter(rings: Rings, i: int, quarter: int) -> None:
    """Compute a quarter's totals and fives from its minutes, equal to the bit to adding the minutes one by one.

    A quarter whose minutes have partly left the ring keeps its volume totals and becomes unusable for bars.
    """
    newest, rows = rings.symbols[i].newest, rings.minutes.shape[1]
    first = quarter * QUARTER
    head, known = EMPTY, False
    for minute in range(first, min(first + QUARTER, newest + 1)):
        now = minute_of(rings, i, minute)
        head = with_minute(head, now)
        known = now.known == 1.0
    held = rings.quarters[i, quarter % rings.quarters.shape[1]]
    put_head(rings, i, quarter, head)
    if known and newest >= first + QUARTER - 1:
        # where the last minute is unknown, a close from warming up may stand here
        held.close = rings.minutes[i, (first + QUARTER - 1) % rows].close
    if newest - rows >= first:
        held.volume = held.trades = held.high = held.low = held.close = math.nan
    # the ring of fives is shorter, and already has room for the quarter after the newest
    if quarter >= newest // QUARTER + 2 - rings.fives.shape[1] // FIVES_IN_QUARTER:
        for number in range(quarter * FIVES_IN_QUARTER, (quarter + 1) * FIVES_IN_QUARTER):
            if 5 * number + 4 <= newest:
                complete_five(rings, i, number)
