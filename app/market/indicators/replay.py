"""Brings the recursive indicators up to the minutes, after late or corrected candles and after a restart.

The recursive state cannot forget a minute, so it is put back to an earlier copy and taken forward again
through the minutes in the rings. Copies (checkpoints) are kept of every fourth hour (UTC). A change older
than the oldest copy within the ring of minutes leaves the indicators as they are: a day of short bars has
outweighed it, and the long bars have closed.
"""

from __future__ import annotations

from app.candles.batch import FloatArray
from app.compiled import inlined
from app.market.evaluation import take_bars
from app.market.indicators.runs import copy_state
from app.market.rings.head import EMPTY, Head, held_quarters, minute_of, with_minute
from app.market.rings.layout import CHECKPOINTS, NO_MINUTE, QUARTER, TIMEFRAME_COUNT
from app.market.rings.records import Rings, Symbol

_BEYOND_ANY_MINUTE = 1 << 62


@inlined
def needs_replay(symbol: Symbol) -> bool:
    """Return whether the indicators are behind the newest minute, or a minute that they may have seen has changed."""
    behind = symbol.dirty_from != NO_MINUTE or symbol.stand < symbol.newest
    return behind and symbol.newest != NO_MINUTE


@inlined
def rewind(rings: Rings, i: int) -> None:
    """Put the recursive state back to the latest point before any change from which all minutes since are in the
    rings."""
    symbol: Symbol = rings.symbols[i]
    symbol.table_quarter = NO_MINUTE
    after = _last_absent(rings, i)
    limit = symbol.newest if symbol.dirty_from == NO_MINUTE else min(symbol.dirty_from - 1, symbol.newest)
    symbol.dirty_from = NO_MINUTE
    latest, earliest = -_BEYOND_ANY_MINUTE, _BEYOND_ANY_MINUTE
    for k in range(CHECKPOINTS + 2):
        if k < CHECKPOINTS:
            point = symbol.checkpoint_minute[k]
            if point > symbol.newest:
                continue
        else:
            point = symbol.stand if k == CHECKPOINTS else symbol.origin // QUARTER * QUARTER - 1
        if point >= after:
            earliest = min(earliest, point)
            if point <= limit:
                latest = max(latest, point)
    start = latest if latest >= after else after if earliest == _BEYOND_ANY_MINUTE else earliest
    if start == symbol.stand:
        return
    symbol.stand = start
    symbol.recursive[:] = 0.0
    for slot in range(CHECKPOINTS):
        if symbol.checkpoint_minute[slot] == start:
            for timeframe in range(TIMEFRAME_COUNT):
                copy_state(symbol.recursive[timeframe], symbol.checkpoint[slot, timeframe])


@inlined
def _last_absent(rings: Rings, i: int) -> int:
    """Return the last minute that has left the ring of minutes, or that the indicators saw and the rings do not
    hold."""
    symbol: Symbol = rings.symbols[i]
    newest = symbol.newest
    edge = (newest // QUARTER - held_quarters(rings) + 1) * QUARTER - 1
    for minute in range(newest, edge, -1):
        if rings.known[i, minute % rings.known.shape[1]] == 2:
            return minute
    return edge


@inlined
def quarter_before(rings: Rings, i: int, minute: int) -> Head:
    """Return the minute's quarter up to the minute before it."""
    head = EMPTY
    for earlier in range(minute - minute % QUARTER, minute):
        head = with_minute(head, minute_of(rings, i, earlier))
    return head


@inlined
def catch_up(rings: Rings, i: int, row: FloatArray) -> None:
    """Bring the indicators up to the newest minute. row: scratch."""
    rewind(rings, i)
    symbol: Symbol = rings.symbols[i]
    first = symbol.stand + 1
    head = quarter_before(rings, i, first)
    for minute in range(first, symbol.newest + 1):
        if minute % QUARTER == 0:
            head = EMPTY
        now = minute_of(rings, i, minute)
        head = with_minute(head, now)
        take_bars(rings, i, minute, now, head, row)
