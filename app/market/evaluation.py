"""Evaluates a minute of a symbol: its row of metrics, and the bars that close with it."""

from __future__ import annotations

from typing import Final

from app.candles.batch import FloatArray
from app.compiled import inlined
from app.market.fields import Need
from app.market.indicators import formations
from app.market.indicators.bands import prepare_bands
from app.market.indicators.bars import bar_so_far, five_so_far, prepare_bars
from app.market.indicators.recursion import step
from app.market.indicators.runs import begin_minute
from app.market.rings.head import Head, Now
from app.market.rings.layout import QUARTER
from app.market.rings.records import Rings, Symbol
from app.market.windows.fields import put_prices, put_windows
from app.market.windows.since import prepare_since, put_since
from app.market.windows.sliding import prepare_previous, prepare_windows

_WINDOWS: Final = Need.WINDOWS.value
_PREVIOUS: Final = Need.PREVIOUS.value
_SINCE: Final = Need.SINCE.value
_BARS: Final = Need.BARS.value
_RECURSIVE: Final = Need.RECURSIVE.value
_BANDS: Final = Need.BANDS.value
_CLOUD: Final = Need.CLOUD.value
_BUBBLES: Final = Need.BUBBLES.value
_SURGE: Final = Need.SURGE.value
_FIVES: Final = (Need.BUBBLES | Need.BANDS | Need.SURGE).value


@inlined
def evaluate(
    rings: Rings, i: int, minute: int, now: Now, head: Head, closed: bool,
    needs: int, timeframes: int, row: FloatArray,
) -> None:  # fmt: skip
    """Put the metrics of a minute into a row of all columns; if it is closed, take in the bars that close with it.

    head: the minute's quarter up to it. A closed minute is in the rings; a forming one is not, and leaves the state
    unchanged. needs, timeframes: what the wanted columns are computed from; the other columns are undefined.
    """
    symbol: Symbol = rings.symbols[i]
    if closed and needs & _RECURSIVE:
        begin_minute(symbol, minute)
    _prepare(rings, i, minute, needs, timeframes)
    put_prices(rings, i, minute, now, timeframes, row)
    if needs & _WINDOWS:
        put_windows(rings, i, minute, now, head, needs, timeframes, row)
    if needs & _SINCE:
        put_since(symbol, minute, head, row)
    if needs & _BARS:
        _put_bars(rings, i, minute, now, head, closed, needs, row)


@inlined
def take_bars(rings: Rings, i: int, minute: int, now: Now, head: Head, row: FloatArray) -> None:
    """Take in the bars that close with a closed minute. row: scratch."""
    begin_minute(rings.symbols[i], minute)
    prepare_bars(rings, i, minute // QUARTER)
    step(
        rings, i, minute, now, five_so_far(rings, i, minute, now), head,
        closed=True, shows=False, bands=False, row=row,
    )  # fmt: skip


@inlined
def _put_bars(
    rings: Rings, i: int, minute: int, now: Now, head: Head, closed: bool, needs: int, row: FloatArray
) -> None:
    symbol: Symbol = rings.symbols[i]
    five = five_so_far(rings, i, minute, now)
    of_five = bar_so_far(symbol, 1, minute, now, five, head)
    of_quarter = bar_so_far(symbol, 2, minute, now, five, head)
    if needs & _CLOUD:
        formations.put_cloud(symbol, of_quarter, row)
    if needs & _BUBBLES:
        complete = (of_five.complete, of_quarter.complete)
        formations.put_bubbles(rings, i, minute, now, five.quote, head.quote, complete[0], complete[1], row)
    if needs & _RECURSIVE:
        step(rings, i, minute, now, five, head, closed, True, needs & _BANDS != 0, row)
    if needs & _SURGE:
        if closed:
            # a bar that closes at this minute counts already
            formations.prepare_fives(rings, i, (minute + 1) // 5)
        formations.put_surge(symbol, row)


@inlined
def _prepare(rings: Rings, i: int, minute: int, needs: int, timeframes: int) -> None:
    """Fill the symbol's tables for the minute's quarter and its bar of 5m, unless they are filled already."""
    symbol: Symbol = rings.symbols[i]
    quarter = minute // QUARTER
    if needs & _FIVES:
        formations.prepare_fives(rings, i, minute // 5)
    if needs & _BARS:
        prepare_bars(rings, i, quarter)
    if symbol.table_quarter == quarter:
        return
    symbol.table_quarter = quarter
    if needs & _WINDOWS:
        prepare_windows(rings, i, quarter, timeframes)
    if needs & _PREVIOUS:
        prepare_previous(rings, i, quarter, timeframes)
    if needs & _SINCE:
        prepare_since(rings, i, quarter)
    if needs & _BANDS:
        prepare_bands(rings, i, quarter)
    if needs & _CLOUD:
        formations.prepare_cloud(rings, i, quarter)
    if needs & _BUBBLES:
        formations.prepare_bubble(rings, i, quarter)
