"""Reading ahead: the memory that a row needs is asked for while the rows before it are computed.

It lies apart, in several rings of each symbol and in the rows of the answer, so the processor does not foresee it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from numpy.typing import NDArray

from app.candles.batch import FloatArray, IntArray
from app.compiled import inlined, prefetch
from app.market.rings.head import earlier
from app.market.rings.layout import LENGTHS, QUARTER, SPANS, TIMEFRAME_COUNT, WINDOW_COUNT
from app.market.rings.records import Records, Rings, Step, Symbol, record_type

_ROW_AHEAD: Final = 1
_SYMBOL_AHEAD: Final = 2
"""In steps: a symbol's record is read when its rows are asked for. Further ahead frames of one minute become slower."""
_LINE_BYTES: Final = 64
_MINUTES_BEFORE: Final = 9
"""What the windows of 5m, and those before them, read besides a row's own minute."""
_SYMBOL: Final = record_type(Symbol)
_FIELDS: Final[Mapping[str, Any]] = _SYMBOL.fields or {}
_TABLE_AT: Final = int(_FIELDS["table_windows"][1])
"""What stands before it in the record is read for every row; of the table, one minute."""
_TABLE_BYTES: Final = _SYMBOL["table_windows"].itemsize // QUARTER


@inlined
def read_ahead(
    rings: Rings, steps: Records, places: IntArray, at: int, timeframes: int, values: FloatArray
) -> None:
    """Ask for what the step a few after this one reads and writes. timeframes: the wanted ones, see `Plan`."""
    if at + _SYMBOL_AHEAD < len(steps):
        step: Step = steps[at + _SYMBOL_AHEAD]
        if step.column != steps[at + _SYMBOL_AHEAD - 1].column:
            _ask_symbol(rings, step.column, step.minute)
    if at + _ROW_AHEAD < len(steps):
        step = steps[at + _ROW_AHEAD]
        quarter = step.minute // QUARTER
        if step.minute % QUARTER == 0 and rings.symbols[step.column].table_quarter != quarter:
            _ask_tails(rings, step.column, quarter, timeframes)
        place = places[at + _ROW_AHEAD]
        # rows in order of memory the processor foresees
        if place != places[at + _ROW_AHEAD - 1] + 1:
            size = values.shape[1] * values.itemsize
            _ask(values, place * size, size)


@inlined
def _ask_tails(rings: Rings, i: int, quarter: int, timeframes: int) -> None:
    """Ask for the quarters in which the windows, and those before them, begin, when the tables of a quarter are about
    to be made."""
    for window in range(WINDOW_COUNT):
        if not timeframes >> window + 2 & 1:
            continue
        for back in range(SPANS[window], 2 * SPANS[window] + 1, SPANS[window]):
            last = ((quarter - back + 1) * QUARTER - 1) % rings.quote.shape[1]
            _ask_rows(rings.quote, i, last, QUARTER - 1)
            _ask_rows(rings.known, i, last, QUARTER - 1)
        last = ((quarter - SPANS[window] + 1) * QUARTER - 1) % rings.minutes.shape[1]
        _ask_rows(rings.minutes, i, last, QUARTER - 1)


@inlined
def _ask_symbol(rings: Rings, i: int, minute: int) -> None:
    """Ask for what the row of a symbol's minute reads: of its record, and of its rings."""
    symbol, at = i * rings.symbols.itemsize, minute % rings.minutes.shape[1]
    _ask(rings.symbols, symbol, _TABLE_AT)
    _ask(rings.symbols, symbol + _TABLE_AT + minute % QUARTER * _TABLE_BYTES, _TABLE_BYTES)
    _ask_rows(rings.minutes, i, at, _MINUTES_BEFORE)
    for timeframe in range(2, TIMEFRAME_COUNT):
        # its open, and the close of the minute before it
        _ask_rows(rings.minutes, i, earlier(at, LENGTHS[timeframe] - 1, rings.minutes.shape[1]), 1)
    quote = minute % rings.quote.shape[1]
    _ask_rows(rings.quote, i, quote, _MINUTES_BEFORE)
    _ask_rows(rings.known, i, quote, _MINUTES_BEFORE)
    _ask_rows(rings.quarters, i, minute // QUARTER % rings.quarters.shape[1], 0)


@inlined
def _ask_rows(ring: NDArray[Any], i: int, row: int, before: int) -> None:
    """Ask for a row of a ring and so many before it."""
    rows, size = ring.shape[1], ring.itemsize
    first = earlier(row, before, rows)
    _ask(ring, (i * rows + first) * size, (before + 1) * size)


@inlined
def _ask(array: NDArray[Any], first: int, size: int) -> None:
    for byte in range(first, first + size + _LINE_BYTES - 1, _LINE_BYTES):
        prefetch(array, byte)
