"""The recursive state of the indicators: one step for each bar that closes.

The value at a minute is what it would be if the bar closed there: one step from the state before the bar, which is left
untouched. At the bar's last minute that is the closed bar's value. A missing minute ends the run of bars: the state
becomes zero and warms up again, so that values are null rather than computed across a gap.
"""

from __future__ import annotations

import math
from typing import Final

from app.candles.batch import FloatArray
from app.compiled import inlined
from app.market.fields import BAR_FIELDS, FIELDS
from app.market.indicators.averages import BARS, move_averages
from app.market.indicators.bands import BANDS_FROM, put_bands
from app.market.indicators.bar_indicators import Bar, move_indicators
from app.market.indicators.bars import bar_so_far
from app.market.indicators.runs import copy_state
from app.market.rings.head import Head, Now
from app.market.rings.layout import FIRST_WITH_OWN_CLOSES, LENGTHS, LONG_CLOSES, TIMEFRAME_COUNT
from app.market.rings.records import Rings, Symbol

_FIELD_COUNT: Final = len(FIELDS)
_PLACES: Final = tuple(FIELDS.index(name) for name in BAR_FIELDS)


@inlined
def move(state: FloatArray, high: float, low: float, close: float, row: FloatArray, base: int) -> None:
    """Take a bar into the state of a timeframe, and put the indicators' values at it into the row."""
    bars = state[BARS]
    move_averages(state, high, low, close)
    move_indicators(Bar(bars, high, low, close), state, row, base)


@inlined
def step(
    rings: Rings, i: int, minute: int, now: Now, five: Head, head: Head,
    closed: bool, shows: bool, bands: bool, row: FloatArray,
) -> None:  # fmt: skip
    """Take in the bars that close with a closed minute; if `shows`, put the fields of all bars into the row.

    A minute that the state has seen already changes nothing, and its values are null.
    """
    symbol: Symbol = rings.symbols[i]
    fresh = minute > symbol.stand
    for timeframe in range(TIMEFRAME_COUNT):
        closes = closed and fresh and (minute + 1) % LENGTHS[timeframe] == 0
        if not (shows or closes):
            continue
        bar = bar_so_far(symbol, timeframe, minute, now, five, head)
        state, moved = symbol.recursive[timeframe], symbol.moved
        base = timeframe * _FIELD_COUNT
        if fresh and bar.complete:
            copy_state(moved, state)
            move(moved, bar.high, bar.low, now.close, row, base)
            if bands:
                put_bands(rings, i, timeframe, minute, now.close, state[BARS] >= BANDS_FROM, row, base)
        else:
            moved[:] = 0.0
            for place in _PLACES:
                row[base + place] = math.nan
        if closes:
            copy_state(state, moved)
            if timeframe >= FIRST_WITH_OWN_CLOSES and not math.isnan(now.close):
                # keep the exchange's close of a bar whose last minute is missing
                place = minute // LENGTHS[timeframe] % LONG_CLOSES
                symbol.long_closes[timeframe - FIRST_WITH_OWN_CLOSES, place] = now.close
    if closed and fresh:
        symbol.stand = minute
