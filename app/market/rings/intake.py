"""Takes minutes into the rings, in order of time."""

from __future__ import annotations

import math

from app.compiled import inlined
from app.market.indicators.runs import lapse
from app.market.rings.head import EMPTY, Head, Now, held_quarters, put_head, quarter_head, with_minute
from app.market.rings.layout import FIVES_IN_QUARTER, NO_MINUTE, QUARTER, week_start
from app.market.rings.records import Minute, Rings, Symbol


@inlined
def put_minute(rings: Rings, i: int, minute: int, now: Now) -> None:
    """Write a closed minute into the rings that still hold its minute."""
    row = minute % rings.quote.shape[1]
    rings.quote[i, row] = now.quote
    rings.known[i, row] = 1
    if minute > rings.symbols[i].newest - rings.minutes.shape[1]:
        held: Minute = rings.minutes[i, minute % rings.minutes.shape[1]]
        held.volume, held.trades = now.volume, now.trades
        held.high, held.low = now.high, now.low
        held.open, held.close = now.open, now.close


@inlined
def take_minute(rings: Rings, i: int, minute: int, now: Now) -> Head:
    """Take the closed minute after the newest in; return its quarter up to it."""
    symbol: Symbol = rings.symbols[i]
    symbol.newest = minute
    put_minute(rings, i, minute, now)
    quarter = minute // QUARTER
    head = with_minute(quarter_head(rings, i, quarter), now)
    put_head(rings, i, quarter, head)
    if minute % 5 == 4:
        complete_five(rings, i, minute // 5)
    if minute % QUARTER == QUARTER - 1:
        rings.quarters[i, quarter % rings.quarters.shape[1]].close = now.close
        begin_quarter(rings, i, quarter + 1)
    return head


@inlined
def complete_five(rings: Rings, i: int, number: int) -> None:
    """Store volume and close of a 5m bar whose last minute is in the rings."""
    quote, known = 0.0, 0
    for minute in range(5 * number, 5 * number + 5):
        row = minute % rings.quote.shape[1]
        quote += rings.quote[i, row]
        known += rings.known[i, row] == 1
    five = rings.fives[i, number % rings.fives.shape[1]]
    five.quote = quote if known == 5 else math.nan
    close = rings.minutes[i, (5 * number + 4) % rings.minutes.shape[1]].close
    if not math.isnan(close):
        five.close = close


@inlined
def begin_quarter(rings: Rings, i: int, quarter: int) -> None:
    """Make the rings' row of a quarter empty, before its first minute."""
    _retire_quarters(rings, i, quarter)
    put_head(rings, i, quarter, EMPTY)
    rings.quarters[i, quarter % rings.quarters.shape[1]].close = math.nan
    for number in range(quarter * FIVES_IN_QUARTER, (quarter + 1) * FIVES_IN_QUARTER):
        five = rings.fives[i, number % rings.fives.shape[1]]
        five.quote = five.close = math.nan


@inlined
def _retire_quarters(rings: Rings, i: int, next_quarter: int) -> None:
    """Add to the week the quarters that leave the ring of minutes once `next_quarter` begins: they can no longer
    change."""
    symbol: Symbol = rings.symbols[i]
    for quarter in range(symbol.week_quarter, next_quarter - held_quarters(rings) + 1):
        week = week_start(quarter * QUARTER)
        if symbol.week != week:
            symbol.week = week
            symbol.week_sums[:] = 0.0
        held = quarter_head(rings, i, quarter)
        symbol.week_sums[0] += held.quote
        symbol.week_sums[1] += held.known
        symbol.week_sums[2] += held.volume
        symbol.week_quarter = quarter + 1


@inlined
def pass_time(rings: Rings, i: int, first: int) -> None:
    """Bring a symbol to the minute before `first`; the minutes between are missing. They must be fewer than the
    rings hold."""
    symbol: Symbol = rings.symbols[i]
    newest = symbol.newest
    if newest == NO_MINUTE:
        if symbol.week_quarter == NO_MINUTE:
            symbol.week_quarter = first // QUARTER - held_quarters(rings) + 1
        if symbol.origin == NO_MINUTE:
            symbol.origin = first
    else:
        for minute in range(newest + 1, first):
            _forget_minute(rings, i, minute)
        for quarter in range((newest + 1) // QUARTER + 1, first // QUARTER + 1):
            begin_quarter(rings, i, quarter)
    # Indicators that lag behind, while minutes are being restored, meet the gap when they are brought up.
    if newest <= symbol.stand < first - 1:
        lapse(symbol, first)
    symbol.newest = first - 1


@inlined
def _forget_minute(rings: Rings, i: int, minute: int) -> None:
    """Mark a minute that passed without a candle as missing. A minute that restored indicators have absorbed keeps
    that mark."""
    row = minute % rings.quote.shape[1]
    rings.quote[i, row] = 0.0
    if rings.known[i, row] != 2 or minute > rings.symbols[i].absorbed_until:
        rings.known[i, row] = 0
    held: Minute = rings.minutes[i, minute % rings.minutes.shape[1]]
    held.volume = held.trades = 0.0
    held.high, held.low = -math.inf, math.inf
    held.open = held.close = math.nan
