"""Turns steps into rows of metrics, moving the state of each symbol from minute to minute."""

from __future__ import annotations

from typing import Final

from app.candles.batch import FloatArray, IntArray
from app.compiled import inlined, kernel
from app.market.evaluation import evaluate, take_bars
from app.market.fields import Need
from app.market.indicators.replay import catch_up, needs_replay, quarter_before, rewind
from app.market.rings.ahead import read_ahead
from app.market.rings.arrivals import CLOSED, REVISED
from app.market.rings.head import EMPTY, minute_of, now_of, quarter_head, with_minute
from app.market.rings.intake import pass_time, take_minute
from app.market.rings.layout import NO_MINUTE, QUARTER
from app.market.rings.records import Records, Rings, Step
from app.market.rings.rewrite import mark_changed

_RECURSIVE: Final = Need.RECURSIVE.value
_RESTORED_AHEAD: Final = 480
"""Minutes that restoring may run ahead of the indicators."""


@kernel
def take_steps(
    rings: Rings, candles: Records, steps: Records, places: IntArray, first: int,
    needs: int, timeframes: int, columns: IntArray, row: FloatArray, values: FloatArray,
) -> int:  # fmt: skip
    """Compute the steps from `first` on; return how many are done.

    It stops before a forming candle that does not follow its symbol's newest minute, and before a closed one that is
    further from it than the rings reach: the caller deals with them. places: (steps,), the row of `values` for each.
    needs, timeframes, columns: see `Plan`. row: (all columns,), scratch.
    """
    at = first
    while at < len(steps):
        step: Step = steps[at]
        i, minute = step.column, step.minute
        if step.kind == REVISED:
            at = _revise(rings, steps, places, at, needs, timeframes, columns, row, values)
            continue
        read_ahead(rings, steps, places, at, timeframes, values)
        newest, closed = rings.symbols[i].newest, step.kind == CLOSED
        if closed and newest != NO_MINUTE and minute - newest > rings.quote.shape[1]:
            return at
        if not closed and minute != newest + 1:
            return at
        now = now_of(candles[step.candle])
        if closed:
            if minute != newest + 1:
                pass_time(rings, i, minute)
            head = take_minute(rings, i, minute, now)
        else:
            head = with_minute(quarter_head(rings, i, minute // QUARTER), now)
        into = row if len(columns) else values[places[at]]
        evaluate(rings, i, minute, now, head, closed, needs, timeframes, into)
        if len(columns):
            _gather(row, columns, values[places[at]])
        at += 1
    return at


@inlined
def _gather(row: FloatArray, columns: IntArray, into: FloatArray) -> None:
    for k in range(len(columns)):
        into[k] = row[columns[k]]


@inlined
def _revise(
    rings: Rings, steps: Records, places: IntArray, first: int,
    needs: int, timeframes: int, columns: IntArray, row: FloatArray, values: FloatArray,
) -> int:  # fmt: skip
    """Compute all revised minutes of a symbol, and take its indicators through them; return how many steps are
    done."""
    i, at, stop = steps[first].column, first, first
    while stop < len(steps) and steps[stop].column == i and steps[stop].kind == REVISED:
        stop += 1
    symbol = rings.symbols[i]
    recursive = needs & _RECURSIVE != 0
    begin = steps[first].minute
    if recursive:
        rewind(rings, i)
        begin = min(begin, symbol.stand + 1)
    head = quarter_before(rings, i, begin)
    for minute in range(begin, symbol.newest + 1):
        if minute % QUARTER == 0:
            head = EMPTY
        now = minute_of(rings, i, minute)
        head = with_minute(head, now)
        if at < stop and steps[at].minute == minute:
            evaluate(rings, i, minute, now, head, True, needs, timeframes, row)
            if len(columns):
                _gather(row, columns, values[places[at]])
            else:
                for k in range(len(row)):
                    values[places[at], k] = row[k]
            at += 1
        elif recursive:
            take_bars(rings, i, minute, now, head, row)
    return at


@kernel
def restore(
    rings: Rings, candles: Records, steps: Records, first: int, recursive: bool, row: FloatArray
) -> int:
    """Take closed candles in without computing rows; return how many steps are done.

    It stops before one that is further from its symbol's newest minute than the rings reach. row: scratch.
    """
    for at in range(first, len(steps)):
        step: Step = steps[at]
        i, minute = step.column, step.minute
        symbol = rings.symbols[i]
        if step.kind != CLOSED:
            continue
        if symbol.newest != NO_MINUTE:
            if minute - symbol.newest > rings.quote.shape[1]:
                return at
            # minutes must not leave the ring before the indicators have seen them
            if recursive and minute - symbol.stand > _RESTORED_AHEAD:
                catch_up(rings, i, row)
        absorbed = minute <= symbol.stand
        if minute != symbol.newest + 1:
            pass_time(rings, i, minute)
        take_minute(rings, i, minute, now_of(candles[step.candle]))
        if absorbed:
            mark_changed(symbol, minute)
    return len(steps)


@kernel
def catch_up_all(rings: Rings, used: int, row: FloatArray) -> None:
    """Bring indicators that lag behind restored minutes up to them. row: (all columns,), scratch."""
    for i in range(used):
        if needs_replay(rings.symbols[i]):
            catch_up(rings, i, row)


@kernel
def bring_to(rings: Rings, i: int, minute: int) -> None:
    """Bring a symbol to the minute before this one; the minutes between are missing."""
    pass_time(rings, i, minute)
