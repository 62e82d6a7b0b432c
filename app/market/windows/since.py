"""vwap since 00:00 UTC and since Monday 00:00 UTC: sums of the period's quarters, the current one included.

A week is longer than the rings: quarters that leave the ring of minutes are added to `week_sums` first, in
order of time, so that the total is the same to the bit whenever that happened.
"""

from __future__ import annotations

import math
from typing import Final

from app.candles.batch import FloatArray
from app.compiled import inlined
from app.market.fields import COLUMN_POSITION
from app.market.rings.head import Head, earlier, quarter_at
from app.market.rings.layout import QUARTER, day_start, week_start
from app.market.rings.records import Rings, Symbol

_DAY, _WEEK = 0, 1
_PLACES: Final = (COLUMN_POSITION["vwap_day"], COLUMN_POSITION["vwap_week"])


@inlined
def prepare_since(rings: Rings, i: int, quarter: int) -> None:
    """Sum quote volume, count and volume from the start of day and week to that of a quarter, into the symbol's
    table."""
    symbol: Symbol = rings.symbols[i]
    symbol.table_since[:] = 0.0
    week, day = week_start(quarter * QUARTER), day_start(quarter * QUARTER)
    first = week // QUARTER
    if symbol.week == week:
        for k in range(3):
            symbol.table_since[_WEEK, k] = symbol.week_sums[k]
    _add_quarters(rings, i, max(first, symbol.week_quarter), quarter, symbol.table_since[_WEEK])
    _add_quarters(rings, i, day // QUARTER, quarter, symbol.table_since[_DAY])


@inlined
def _add_quarters(rings: Rings, i: int, first: int, until: int, sums: FloatArray) -> None:
    rows = rings.quarters.shape[1]
    row = until % rows
    for back in range(until - first, 0, -1):
        held = quarter_at(rings, i, earlier(row, back, rows))
        sums[0] += held.quote
        sums[1] += held.known
        sums[2] += held.volume


@inlined
def put_since(symbol: Symbol, minute: int, head: Head, row: FloatArray) -> None:
    """Put vwap of day and week; null if a minute of the period so far is missing or nothing was traded in it. head:
    the quarter up to the minute."""
    begins = (day_start(minute), week_start(minute))
    for period in range(2):
        before = symbol.table_since[period]
        volume = before[2] + head.volume
        known = before[1] + head.known == minute - begins[period] + 1 and volume != 0.0
        row[_PLACES[period]] = (before[0] + head.quote) / volume if known else math.nan
