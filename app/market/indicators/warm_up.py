"""Warming up the indicators of a timeframe from the exchange's own bars of that interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.compiled import allocating_kernel, inlined
from app.market.fields import METRIC_COLUMNS
from app.market.indicators.recursion import move
from app.market.indicators.runs import copy_state
from app.market.rings.layout import (
    BAND_BARS,
    FIRST_WITH_OWN_CLOSES,
    LENGTHS,
    LONG_CLOSES,
    NO_MINUTE,
    OWN_QUARTERS,
    QUARTER,
)
from app.market.rings.records import Candle, Records, Rings, Symbol


@allocating_kernel
def warm_up(rings: Rings, bars: Records, order: NDArray[np.intp], timeframe: int) -> None:
    """Compute the state after each symbol's last unbroken run of bars and keep it as a seed.

    bars: as candles; order: the closed ones by symbol, time, arrival. The seed comes into force at the bar that follows
    the run.
    """
    row = np.empty(len(METRIC_COLUMNS))
    begin = 0
    while begin < len(order):
        column, end = bars[order[begin]].column, begin + 1
        while end < len(order) and bars[order[end]].column == column:
            end += 1
        first, last = _last_run(bars, order[begin:end], LENGTHS[timeframe])
        if last > first:
            _sow_run(rings, bars, order[begin:end][first:last], timeframe, row)
        begin = end


@inlined
def _last_run(bars: Records, rows: NDArray[np.intp], length: int) -> tuple[int, int]:
    """Return first and end of the last unbroken run; a run of bars shorter than a quarter is cut to end with a
    quarter."""
    end = len(rows)
    while length < QUARTER and end > 0 and (bars[rows[end - 1]].minute // length + 1) * length % QUARTER:
        end -= 1
    first = max(end - 1, 0)
    while first > 0 and bars[rows[first]].minute // length - bars[rows[first - 1]].minute // length <= 1:
        first -= 1
    return first, end


@inlined
def _sow_run(
    rings: Rings, bars: Records, run: NDArray[np.intp], timeframe: int, row: NDArray[np.float64]
) -> None:
    """run: rows of consecutive bars; the later of two with one number wins, as a correction would."""
    length, last = LENGTHS[timeframe], len(run) - 1
    symbol: Symbol = rings.symbols[bars[run[0]].column]
    state, number = symbol.moved, bars[run[last]].minute // length
    state[:] = 0.0
    for k in range(len(run)):
        bar: Candle = bars[run[k]]
        if k < last and bars[run[k + 1]].minute // length == bar.minute // length:
            continue
        move(state, bar.high, bar.low, bar.close, row, 0)
        if bar.minute // length > number - BAND_BARS:
            _keep_close(rings, bar.column, timeframe, bar.minute // length, bar.close)
        if length == QUARTER and bar.minute // length > number - OWN_QUARTERS:
            place = bar.minute // length % OWN_QUARTERS
            symbol.own_quarters[place] = bar.minute // length
            symbol.own_ranges[place, 0], symbol.own_ranges[place, 1] = bar.high, bar.low
    copy_state(symbol.seed[timeframe], state)
    symbol.seed_minute[timeframe] = number * length + length - 1
    symbol.table_quarter = symbol.five_bar = NO_MINUTE
    if symbol.newest != NO_MINUTE:
        after = (number + 1) * length
        symbol.dirty_from = after if symbol.dirty_from == NO_MINUTE else min(symbol.dirty_from, after)


@inlined
def _keep_close(rings: Rings, i: int, timeframe: int, number: int, close: float) -> None:
    """Store a close for the bands, in the ring of the timeframe, never over that of a later bar."""
    symbol: Symbol = rings.symbols[i]
    length = LENGTHS[timeframe]
    end = number * length + length - 1
    if 1 < timeframe < FIRST_WITH_OWN_CLOSES:
        symbol.own_closes[timeframe - 2, number % LONG_CLOSES] = close
        symbol.own_bars[timeframe - 2, number % LONG_CLOSES] = number
    newest = max(symbol.newest, symbol.stand)
    held = rings.known.shape[1]
    if newest - held < end <= newest and rings.known[i, end % held] == 1:
        return
    # the ring has already made room for the row after the newest minute's
    if timeframe == 1:
        if newest == NO_MINUTE or (newest + 1) // 5 < end // 5 + rings.fives.shape[1]:
            rings.fives[i, number % rings.fives.shape[1]].close = close
    elif timeframe < FIRST_WITH_OWN_CLOSES:
        rows = rings.quarters.shape[1]
        if newest == NO_MINUTE or (newest + 1) // QUARTER < end // QUARTER + rows:
            rings.quarters[i, end // QUARTER % rows].close = close
    elif newest == NO_MINUTE or (newest + 1) // length < number + LONG_CLOSES:
        symbol.long_closes[timeframe - FIRST_WITH_OWN_CLOSES, number % LONG_CLOSES] = close
