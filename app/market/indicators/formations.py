"""Ichimoku cloud, volume bubbles, volume surges: formations over a number of past bars of fixed length.

Ichimoku (Hosoda): conversion, base and span B are the middle of the range of the last 9, 26
and 52 bars, span A is the mean of conversion and base; the spans are drawn 26 bars ahead, so that the cloud
at a bar is the one computed 26 bars earlier. Bubble: z-score of the bar's quote volume among the bars before
it.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from app.candles.batch import FloatArray
from app.compiled import inlined
from app.market.fields import COLUMN_POSITION
from app.market.indicators.bands import BANDS_FROM
from app.market.indicators.bars import BarSoFar
from app.market.rings.head import Now, earlier, quarter_at
from app.market.rings.layout import OWN_QUARTERS, QUARTER
from app.market.rings.records import Rings, Symbol

_CONVERSION, _BASE, _SPAN_B, _AHEAD = 9, 26, 52, 26
_CLOUD: Final = tuple(
    COLUMN_POSITION[f"ichimoku_{part}_15m"] for part in ("conversion", "base", "span_a", "span_b")
)
_BUBBLE_LEAST: Final = 20
_BUBBLE_CHANGE: Final = 0.001
_BUBBLE_BARS_5M, _BUBBLE_BARS_15M = 60, 80
_BUBBLE_SIZES: Final = ((1.5, 2.5, 3.5), (1.2, 2.0, 3.0))
"""Least z-scores of small, medium and large, of 5m and of 15m."""
_BUBBLE: Final = tuple(
    tuple(COLUMN_POSITION[f"bubble_{part}_{name}"] for part in ("z", "size", "side"))
    for name in ("5m", "15m")
)
_SURGE_BARS, _SURGE_MEAN_BARS = 3, 20
_SURGE_RATIO: Final = COLUMN_POSITION["surge_ratio_5m"]
_SURGE_SIDE: Final = COLUMN_POSITION["surge_side_5m"]


class _Range(NamedTuple):
    high: float
    low: float


@inlined
def _range_of(rings: Rings, i: int, first: int, bars: int) -> _Range:
    """Return the range of consecutive quarters; NaN if one is neither complete nor given by the exchange."""
    high, low = -math.inf, math.inf
    rows = rings.quarters.shape[1]
    row = (first + bars) % rows
    symbol: Symbol = rings.symbols[i]
    for back in range(bars, 0, -1):
        held = quarter_at(rings, i, earlier(row, back, rows))
        if held.known == QUARTER:
            high, low = max(high, held.high), min(low, held.low)
            continue
        number = first + bars - back
        place = number % OWN_QUARTERS
        if symbol.own_quarters[place] != number:
            return _Range(math.nan, math.nan)
        high, low = max(high, symbol.own_ranges[place, 0]), min(low, symbol.own_ranges[place, 1])
    return _Range(high, low)


@inlined
def _middle(span: _Range) -> float:
    return (span.high + span.low) / 2.0


@inlined
def prepare_cloud(rings: Rings, i: int, quarter: int) -> None:
    """Compute the range of the 8 and of the 25 bars before a quarter, and displaced span A and B, into the symbol's
    table."""
    table = rings.symbols[i].table_cloud
    eight = _range_of(rings, i, quarter - _CONVERSION + 1, _CONVERSION - 1)
    others = _range_of(rings, i, quarter - _BASE + 1, _BASE - 1)
    # span A and B were computed at this bar, and drawn ahead
    after = quarter - _AHEAD + 1
    conversion = _range_of(rings, i, after - _CONVERSION, _CONVERSION)
    base = _range_of(rings, i, after - _BASE, _BASE)
    table[0], table[1], table[2], table[3] = eight.high, eight.low, others.high, others.low
    table[4] = (_middle(conversion) + _middle(base)) / 2.0
    table[5] = _middle(_range_of(rings, i, after - _SPAN_B, _SPAN_B))


@inlined
def put_cloud(symbol: Symbol, bar: BarSoFar, row: FloatArray) -> None:
    """Put the cloud into the row. A value is null unless every bar it needs is complete or the exchange's; conversion
    and base also need the current bar of 15m to be complete so far."""
    table = symbol.table_cloud
    for k in range(2):
        high, low = table[2 * k], table[2 * k + 1]
        known = bar.complete and not math.isnan(high)
        row[_CLOUD[k]] = (max(high, bar.high) + min(low, bar.low)) / 2.0 if known else math.nan
    row[_CLOUD[2]], row[_CLOUD[3]] = table[4], table[5]


class _Bubble(NamedTuple):
    mean: float
    deviation: float


@inlined
def _volume_of_bar(rings: Rings, i: int, fives: bool, row: int, back: int) -> float:
    """Return the quote volume of a bar of 5m or 15m, NaN if it is not complete."""
    if fives:
        return float(rings.fives[i, earlier(row, back, rings.fives.shape[1])].quote)
    held = quarter_at(rings, i, earlier(row, back, rings.quarters.shape[1]))
    return held.quote if held.known == QUARTER else math.nan


@inlined
def _bubble_before(rings: Rings, i: int, fives: bool, number: int, bars: int) -> _Bubble:
    """Return mean and population deviation of the volumes of the complete bars among those before; NaN for fewer than
    20."""
    total, count = 0.0, 0
    row = number % (rings.fives.shape[1] if fives else rings.quarters.shape[1])
    for back in range(bars, 0, -1):
        volume = _volume_of_bar(rings, i, fives, row, back)
        if not math.isnan(volume):
            total += volume
            count += 1
    mean, squares = total / count, 0.0
    for back in range(bars, 0, -1):
        volume = _volume_of_bar(rings, i, fives, row, back)
        if not math.isnan(volume):
            squares += (volume - mean) * (volume - mean)
    deviation = math.sqrt(squares / count)
    return _Bubble(mean, math.nan if count < _BUBBLE_LEAST or deviation == 0.0 else deviation)


@inlined
def prepare_bubble(rings: Rings, i: int, quarter: int) -> None:
    """Compute mean and deviation of the 15m bars before a quarter, into the symbol's table."""
    bubble = _bubble_before(rings, i, False, quarter, _BUBBLE_BARS_15M)
    table = rings.symbols[i].table_bubble
    table[0], table[1] = bubble.mean, bubble.deviation


@inlined
def prepare_fives(rings: Rings, i: int, number: int) -> None:
    """Compute bands, bubble and surge from the bars of 5m before the one of this number, into the symbol's table,
    unless they are there already."""
    symbol: Symbol = rings.symbols[i]
    if symbol.five_bar == number:
        return
    symbol.five_bar = number
    fives, rows, table = rings.fives, rings.fives.shape[1], symbol.table_five
    at, total = number % rows, 0.0
    for back in range(BANDS_FROM, 0, -1):
        total += fives[i, earlier(at, back, rows)].close
    mean, squares = total / BANDS_FROM, 0.0
    for back in range(BANDS_FROM, 0, -1):
        distance = fives[i, earlier(at, back, rows)].close - mean
        squares += distance * distance
    table[0], table[1] = mean, squares
    bubble = _bubble_before(rings, i, True, number, _BUBBLE_BARS_5M)
    table[2], table[3] = bubble.mean, bubble.deviation
    table[4], table[5] = _surge(rings, i, number)


@inlined
def _surge(rings: Rings, i: int, number: int) -> tuple[float, float]:
    """Return ratio and side of the last three bars before the one of this number."""
    fives, rows = rings.fives, rings.fives.shape[1]
    total = 0.0
    for past in range(number - _SURGE_BARS - _SURGE_MEAN_BARS, number - _SURGE_BARS):
        total += fives[i, past % rows].quote
    mean, least, rising, falling = total / _SURGE_MEAN_BARS, math.inf, True, True
    for past in range(number - _SURGE_BARS, number):
        bar = fives[i, past % rows]
        if bar.quote < least or math.isnan(bar.quote):
            least = bar.quote
        if past > number - _SURGE_BARS:
            before = fives[i, (past - 1) % rows].close
            rising, falling = rising and bar.close > before, falling and bar.close < before
    ratio = math.nan if mean == 0.0 else least / mean
    side = 1.0 if rising else -1.0 if falling else 0.0
    return ratio, math.nan if math.isnan(ratio) else side


@inlined
def put_surge(symbol: Symbol, row: FloatArray) -> None:
    """Put the surge of the bars before the one that `prepare_fives` was last called for into the row."""
    row[_SURGE_RATIO], row[_SURGE_SIDE] = symbol.table_five[4], symbol.table_five[5]


@inlined
def put_bubbles(
    rings: Rings, i: int, minute: int, now: Now, five_quote: float, quarter_quote: float,
    five_complete: bool, quarter_complete: bool, row: FloatArray,
) -> None:  # fmt: skip
    """Put z-score, size 0..3 and side of the 5m and the 15m bar so far into the row; all null while z is."""
    symbol: Symbol = rings.symbols[i]
    five, bar = symbol.table_five, symbol.table_bubble
    z = (five_quote - five[2]) / five[3] if five_complete else math.nan
    _put_bubble(z, now.close / _open_of_bar(rings, i, minute, 5, now) - 1.0, 0, row)
    z = (quarter_quote - bar[0]) / bar[1] if quarter_complete else math.nan
    _put_bubble(z, now.close / _open_of_bar(rings, i, minute, QUARTER, now) - 1.0, 1, row)


@inlined
def _put_bubble(z: float, change: float, which: int, row: FloatArray) -> None:
    places, size, side = _BUBBLE[which], 0.0, 0.0
    if abs(change) >= _BUBBLE_CHANGE:
        for least in _BUBBLE_SIZES[which]:
            if z >= least:
                size += 1.0
    if size > 0.0:
        side = 1.0 if change > 0.0 else -1.0
    row[places[0]] = z
    row[places[1]], row[places[2]] = (size, side) if math.isfinite(z) else (math.nan, math.nan)


@inlined
def _open_of_bar(rings: Rings, i: int, minute: int, length: int, now: Now) -> float:
    start = minute - minute % length
    # a forming minute is not in the rings; the bar may begin with it
    return now.open if start == minute else float(rings.minutes[i, start % rings.minutes.shape[1]].open)
