"""Sliding windows: sums and range of the last N minutes.

Time is cut into quarters (15 minutes). A window that ends in quarter q starts inside quarter q - N/15, so
    window(t) = tail of that quarter + the whole quarters between + head of quarter q up to t.
The first two are known when q begins: they make a table of 15 rows, one for each minute of q. The head grows
minute by minute. Nothing is ever subtracted, so nothing drifts: a sum of non-negative terms is within
N rounding errors of the true one, however many minutes went before. Highs and lows go the same way. Windows of 1m
and 5m are added up directly.

Cost: a table reads 75 minutes and 95 quarters, once in 15 minutes; each minute then costs one addition per window and
sum.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from app.compiled import inlined
from app.market.rings.head import EMPTY, Head, Now, earlier, minute_at, quarter_at, with_minute
from app.market.rings.layout import QUARTER, SPANS, WINDOW_COUNT
from app.market.rings.records import Rings, Symbol


class Short(NamedTuple):
    """The windows that are added up directly. before: of the 5m before the window of 5m. previous_quote,
    previous_known: of the minute before."""

    five: Head
    before: Head
    previous_quote: float
    previous_known: float


NO_SHORT: Final = Short(EMPTY, EMPTY, 0.0, 0.0)


@inlined
def together(first: Head, second: Head) -> Head:
    return Head(
        first.quote + second.quote,
        first.known + second.known,
        first.volume + second.volume,
        first.trades + second.trades,
        max(first.high, second.high),
        min(first.low, second.low),
    )


@inlined
def _rows_of(rings: Rings, quarter: int) -> tuple[int, int]:
    """Return the first row of a quarter in the rings of minutes and of quote volumes; the others follow it."""
    first = quarter * QUARTER
    return first % rings.minutes.shape[1], first % rings.quote.shape[1]


@inlined
def prepare_windows(rings: Rings, i: int, quarter: int, timeframes: int) -> None:
    """Compute the part of each window of 15m and longer before a quarter, by minute of it, into the symbol's table.

    timeframes: the wanted ones, see `Plan`.
    """
    symbol: Symbol = rings.symbols[i]
    between, back = EMPTY, 1
    rows, row = rings.quarters.shape[1], quarter % rings.quarters.shape[1]
    for window in range(WINDOW_COUNT):
        if not timeframes >> window + 2:
            return
        # the whole quarters of a longer window are those of the shorter window and further ones
        further = EMPTY
        while back < SPANS[window]:
            further = together(further, quarter_at(rings, i, earlier(row, back, rows)))
            back += 1
        between = together(between, further)
        if not timeframes >> window + 2 & 1:
            continue
        first, quote_first = _rows_of(rings, quarter - SPANS[window])
        tail = EMPTY
        for minute in range(QUARTER - 1, -1, -1):
            held, table = together(tail, between), symbol.table_windows[minute, window]
            table[0], table[1], table[2], table[3] = held.quote, held.known, held.volume, held.trades
            table[4], table[5] = held.high, held.low
            tail = with_minute(tail, minute_at(rings, i, first + minute, quote_first + minute))


@inlined
def prepare_previous(rings: Rings, i: int, quarter: int, timeframes: int) -> None:
    """Compute quote volume and count of the window before each of these windows, by minute of a quarter."""
    symbol: Symbol = rings.symbols[i]
    rows, row = rings.quarters.shape[1], quarter % rings.quarters.shape[1]
    for window in range(WINDOW_COUNT):
        if not timeframes >> window + 2 & 1:
            continue
        span, table = SPANS[window], symbol.table_windows[:, window]
        quote, count = 0.0, 0.0
        for back in range(span + 1, 2 * span):
            held = quarter_at(rings, i, earlier(row, back, rows))
            quote += held.quote
            count += held.known
        _, first = _rows_of(rings, quarter - 2 * span)
        tail_quote, tail_count = 0.0, 0.0
        for minute in range(QUARTER - 1, -1, -1):
            table[minute, 6], table[minute, 7] = tail_quote + quote, tail_count + count
            tail_quote += rings.quote[i, first + minute]
            tail_count += rings.known[i, first + minute] == 1
        _, first = _rows_of(rings, quarter - span)
        head_quote, head_count = 0.0, 0.0
        for minute in range(QUARTER):
            head_quote += rings.quote[i, first + minute]
            head_count += rings.known[i, first + minute] == 1
            table[minute, 6] += head_quote
            table[minute, 7] += head_count


@inlined
def short_windows(rings: Rings, i: int, minute: int, now: Now) -> Short:
    """Return the windows of 5m that end at a minute and five minutes before it, oldest minute first, and the minute
    before."""
    before, five, previous = EMPTY, EMPTY, now
    rows, quote_rows = rings.minutes.shape[1], rings.quote.shape[1]
    row, quote_row = minute % rows, minute % quote_rows
    for back in range(9, 0, -1):
        previous = minute_at(rings, i, earlier(row, back, rows), earlier(quote_row, back, quote_rows))
        if back >= 5:
            before = with_minute(before, previous)
        else:
            five = with_minute(five, previous)
    return Short(with_minute(five, now), before, previous.quote, previous.known)


@inlined
def window_at(symbol: Symbol, timeframe: int, minute: int, now: Now, short: Short, head: Head) -> Head:
    """Return the window that ends at a minute, whole or not. head: the quarter up to the minute."""
    if timeframe == 0:
        return Head(now.quote, now.known, now.volume, now.trades, now.high, now.low)
    if timeframe == 1:
        return short.five
    held = symbol.table_windows[minute % QUARTER, timeframe - 2]
    return together(Head(held[0], held[1], held[2], held[3], held[4], held[5]), head)


@inlined
def quote_before(symbol: Symbol, timeframe: int, minute: int, length: int, short: Short) -> float:
    """Return the quote volume of the window before the one that ends at a minute; NaN if that earlier window is not
    whole."""
    if timeframe == 0:
        quote, count = short.previous_quote, short.previous_known
    elif timeframe == 1:
        quote, count = short.before.quote, short.before.known
    else:
        held = symbol.table_windows[minute % QUARTER, timeframe - 2]
        quote, count = held[6], held[7]
    return quote if count == length else math.nan
