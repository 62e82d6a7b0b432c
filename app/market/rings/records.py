"""The state of a symbol, and what comes in and goes out, as records that Python and compiled code both see.

A class here is a NumPy structured type: its annotations name the fields; `Cells` gives the shape of an array within the
record, and what stands in it before there is anything to keep. Compiled code reads `rings.symbols[i].newest` and writes
through such a record as through an object.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Final, NamedTuple, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import FloatArray, IntArray
from app.market.indicators.bar_indicators import RECURSIVE_ROWS
from app.market.rings.layout import (
    CHECKPOINTS,
    FIRST_WITH_OWN_CLOSES,
    LONG_CLOSES,
    NO_MINUTE,
    OWN_QUARTERS,
    QUARTER,
    TIMEFRAME_COUNT,
    WINDOW_COUNT,
)

Records = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Cells:
    """fill: what stands in a field before anything is known. shape: of an array, () for a number."""

    fill: float
    shape: tuple[int, ...] = ()


WINDOW_VALUES: Final = 8
_RECURSIVE: Final = (TIMEFRAME_COUNT, RECURSIVE_ROWS)
_MISSING: Final = Cells(math.nan)
_NO_MINUTE: Final = Cells(NO_MINUTE)


class Minute:
    """A closed minute in the ring of a day. Of a missing one sums are 0, the range is empty, and the prices are NaN."""

    volume: Annotated[float, Cells(0.0)]
    trades: Annotated[float, Cells(0.0)]
    high: Annotated[float, Cells(-math.inf)]
    low: Annotated[float, Cells(math.inf)]
    open: Annotated[float, _MISSING]
    close: Annotated[float, _MISSING]


class Quarter:
    """A quarter so far. close: of its last minute, or the exchange's close of the bar that ends with it."""

    quote: Annotated[float, Cells(0.0)]
    known: Annotated[float, Cells(0.0)]
    volume: Annotated[float, Cells(0.0)]
    trades: Annotated[float, Cells(0.0)]
    high: Annotated[float, Cells(-math.inf)]
    low: Annotated[float, Cells(math.inf)]
    close: Annotated[float, _MISSING]


class Five:
    """A clock-aligned bar of five minutes. quote: its quote volume, NaN unless complete."""

    quote: Annotated[float, _MISSING]
    close: Annotated[float, _MISSING]


class Symbol:
    """All of a symbol's state that is not in rings.

    newest: newest closed minute. dirty_from: earliest minute that changed after the indicators may have seen it.
    origin: first minute. absorbed_until: minutes up to here that are not in the rings may have been absorbed by
    restored indicators.

    table_*: for the quarter `table_quarter`. Windows: by minute of it, what each window of 15m and longer holds before
        it: quote, count, volume, trades, high, low; quote and count of the window before the window. Since: quote,
        count, volume of day and week. Bands: mean and squared deviations of the closes before. Cloud: high and low of
        the 8 and of the 25 bars before, span A and B. Bubble: mean and deviation of the bars before.
    table_bars: for the quarter `bars_quarter`, high, low and minutes of the bars of 1h and longer before it.
    table_five: for the bar `five_bar` of 5m, bands, bubble, and ratio and side of the surge before it.

    recursive: by timeframe, see `averages`; stands at minute `stand`. moved: room for the state after a bar.
    checkpoint: copies of `recursive` at `checkpoint_minute`. seed: states warmed up from the exchange's bars.
    long_closes: closes of the last bars that the rings do not hold. own_closes: the exchange's closes of the last
        15m and 1h bars it gave, own_bars: the numbers of those bars. own_ranges: high and low of the exchange's last
        15m bars, own_quarters: the numbers of those bars.
    week_sums: quote, count and volume of the week `week` before quarter `week_quarter`.
    """

    newest: Annotated[int, _NO_MINUTE]
    stand: Annotated[int, _NO_MINUTE]
    dirty_from: Annotated[int, _NO_MINUTE]
    origin: Annotated[int, _NO_MINUTE]
    absorbed_until: Annotated[int, _NO_MINUTE]
    table_quarter: Annotated[int, _NO_MINUTE]
    bars_quarter: Annotated[int, _NO_MINUTE]
    five_bar: Annotated[int, _NO_MINUTE]
    week: Annotated[int, _NO_MINUTE]
    week_quarter: Annotated[int, _NO_MINUTE]
    week_sums: Annotated[FloatArray, Cells(0.0, (3,))]
    recursive: Annotated[FloatArray, Cells(0.0, _RECURSIVE)]
    moved: Annotated[FloatArray, Cells(0.0, (RECURSIVE_ROWS,))]
    table_bars: Annotated[FloatArray, Cells(0.0, (TIMEFRAME_COUNT - 3, 3))]
    table_since: Annotated[FloatArray, Cells(0.0, (2, 3))]
    table_bands: Annotated[FloatArray, Cells(math.nan, (WINDOW_COUNT, 2))]
    table_cloud: Annotated[FloatArray, Cells(math.nan, (6,))]
    table_bubble: Annotated[FloatArray, Cells(math.nan, (2,))]
    table_five: Annotated[FloatArray, Cells(math.nan, (6,))]
    table_windows: Annotated[FloatArray, Cells(0.0, (QUARTER, WINDOW_COUNT, WINDOW_VALUES))]
    long_closes: Annotated[FloatArray, Cells(0.0, (TIMEFRAME_COUNT - FIRST_WITH_OWN_CLOSES, LONG_CLOSES))]
    own_closes: Annotated[FloatArray, Cells(math.nan, (FIRST_WITH_OWN_CLOSES - 2, LONG_CLOSES))]
    own_bars: Annotated[IntArray, Cells(NO_MINUTE, (FIRST_WITH_OWN_CLOSES - 2, LONG_CLOSES))]
    own_ranges: Annotated[FloatArray, Cells(math.nan, (OWN_QUARTERS, 2))]
    own_quarters: Annotated[IntArray, Cells(NO_MINUTE, (OWN_QUARTERS,))]
    seed: Annotated[FloatArray, Cells(0.0, _RECURSIVE)]
    seed_minute: Annotated[IntArray, Cells(NO_MINUTE, (TIMEFRAME_COUNT,))]
    checkpoint: Annotated[FloatArray, Cells(0.0, (CHECKPOINTS, *_RECURSIVE))]
    checkpoint_minute: Annotated[IntArray, Cells(NO_MINUTE, (CHECKPOINTS,))]


class Candle:
    """A row of a batch. column: the symbol's place in the state."""

    column: int
    minute: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote: float
    trades: float
    closed: bool


class Step:
    """A row to compute. candle: the place of the candle that caused it. kind: see `arrivals`."""

    column: int
    minute: int
    candle: int
    kind: int


class Rings(NamedTuple):
    """symbols: (S,). The rings are (S, rows), the row of minute m is m modulo the rows, of a quarter and a five
    likewise.

    known: 1 = closed candle known, 2 = absorbed by the restored indicators though it is not here, 0 = missing.
    """

    symbols: Records
    minutes: Records
    quote: FloatArray
    known: NDArray[np.uint8]
    quarters: Records
    fives: Records


def _numpy_type(annotation: Any) -> Any:
    if annotation in (int, IntArray):
        return np.int64
    return np.bool_ if annotation is bool else np.float64


def record_type(declared: type) -> np.dtype[np.void]:
    """Return the NumPy type of a class of this module."""
    fields = []
    for name, annotation in get_type_hints(declared, include_extras=True).items():
        kind, *cells = get_args(annotation) if hasattr(annotation, "__metadata__") else (annotation,)
        fields.append((name, _numpy_type(kind), cells[0].shape if cells else ()))
    return np.dtype(fields, align=True)


def empty_record(declared: type) -> Records:
    """Return one record, (1,), as it stands before there is anything to keep."""
    record = np.zeros(1, record_type(declared))
    for name, annotation in get_type_hints(declared, include_extras=True).items():
        record[name] = annotation.__metadata__[0].fill
    return record


CANDLE: Final = record_type(Candle)
STEP: Final = record_type(Step)
