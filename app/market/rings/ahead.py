"""Reading ahead: the memory that a row needs is asked for while the row before it is computed.

It lies apart, in several rings of each symbol, so the processor does not foresee it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from numpy.typing import NDArray

from app.compiled import inlined, prefetch
from app.market.rings.head import earlier
from app.market.rings.layout import LENGTHS, QUARTER, TIMEFRAME_COUNT
from app.market.rings.records import Rings, Symbol, record_type

_LINE_BYTES: Final = 64
_MINUTES_BEFORE: Final = 9
"""What the windows of 5m, and those before them, read besides a row's own minute."""
_SYMBOL: Final = record_type(Symbol)
_FIELDS: Final[Mapping[str, Any]] = _SYMBOL.fields or {}
_TABLE_AT: Final = int(_FIELDS["table_windows"][1])
"""What stands before it in the record is read for every row; of the table, one minute."""
_TABLE_BYTES: Final = _SYMBOL["table_windows"].itemsize // QUARTER


@inlined
def read_ahead(rings: Rings, i: int, minute: int) -> None:
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
