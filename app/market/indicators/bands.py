"""Bollinger bands: the 19 closes before a bar, with the current close added.

Mean and squared deviations of the closes before are computed once for each bar. The current close is added without
cancellation (Welford's update): mean += d / 20 and squares += d * d * 19 / 20, with d = close - mean.
"""

from __future__ import annotations

import math
from typing import Final

from app.candles.batch import FloatArray
from app.compiled import inlined
from app.market.fields import FIELDS
from app.market.rings.head import earlier
from app.market.rings.layout import (
    BAND_BARS,
    FIRST_WITH_OWN_CLOSES,
    LONG_CLOSES,
    SPANS,
    WINDOW_COUNT,
)
from app.market.rings.records import Rings, Symbol

BANDS_FROM: Final = BAND_BARS - 1
"""Bars that must have closed before the one whose bands are computed."""
_WIDTH: Final = 2.0
_UPPER, _MIDDLE, _LOWER = (FIELDS.index(f"bb_{name}") for name in ("upper", "middle", "lower"))


@inlined
def prepare_bands(rings: Rings, i: int, quarter: int) -> None:
    """Compute mean and squared deviations for the bands of 15m and longer before a quarter, into the symbol's
    table."""
    symbol: Symbol = rings.symbols[i]
    row = quarter % rings.quarters.shape[1]
    for window in range(WINDOW_COUNT):
        bar = quarter // SPANS[window]
        total = 0.0
        for past in range(bar - BANDS_FROM, bar):
            total += _close_of_bar(rings, i, window, past, quarter, row)
        mean, squares = total / BANDS_FROM, 0.0
        for past in range(bar - BANDS_FROM, bar):
            distance = _close_of_bar(rings, i, window, past, quarter, row) - mean
            squares += distance * distance
        symbol.table_bands[window, 0], symbol.table_bands[window, 1] = mean, squares


@inlined
def _close_of_bar(rings: Rings, i: int, window: int, bar: int, quarter: int, row: int) -> float:
    """Return a bar's close, NaN if its last minute is missing and the exchange has not given the close. row: the
    quarter's."""
    symbol: Symbol = rings.symbols[i]
    place = bar % LONG_CLOSES
    if window + 2 >= FIRST_WITH_OWN_CLOSES:
        return float(symbol.long_closes[window + 2 - FIRST_WITH_OWN_CLOSES, place])
    back = quarter + 1 - (bar + 1) * SPANS[window]
    close = float(rings.quarters[i, earlier(row, back, rings.quarters.shape[1])].close)
    if math.isnan(close) and symbol.own_bars[window, place] == bar:
        close = float(symbol.own_closes[window, place])
    return close


@inlined
def _minutes_before(rings: Rings, i: int, minute: int) -> tuple[float, float]:
    """Return mean and squared deviations of the closes of the 19 minutes before."""
    minutes, rows = rings.minutes, rings.minutes.shape[1]
    at, total = minute % rows, 0.0
    for back in range(BANDS_FROM, 0, -1):
        total += minutes[i, earlier(at, back, rows)].close
    mean, squares = total / BANDS_FROM, 0.0
    for back in range(BANDS_FROM, 0, -1):
        distance = minutes[i, earlier(at, back, rows)].close - mean
        squares += distance * distance
    return mean, squares


@inlined
def put_bands(
    rings: Rings, i: int, timeframe: int, minute: int, close: float, enough: bool, row: FloatArray, base: int
) -> None:
    """Put the bands of a bar that would close now into the row; null unless `enough` bars have closed before it."""
    symbol: Symbol = rings.symbols[i]
    if not enough:
        mean, squares = math.nan, math.nan
    elif timeframe == 0:
        mean, squares = _minutes_before(rings, i, minute)
    elif timeframe == 1:
        mean, squares = symbol.table_five[0], symbol.table_five[1]
    else:
        mean, squares = symbol.table_bands[timeframe - 2, 0], symbol.table_bands[timeframe - 2, 1]
    distance = close - mean
    middle = mean + distance / BAND_BARS
    width = math.sqrt((distance * distance * (BANDS_FROM / BAND_BARS) + squares) / BAND_BARS) * _WIDTH
    row[base + _UPPER], row[base + _MIDDLE], row[base + _LOWER] = middle + width, middle, middle - width
