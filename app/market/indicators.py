"""Indicators of a block: takes its closed bars into the recursive state, and evaluates the bar at each
minute.

The value at a minute is what it would be if the bar closed there: one step from the state before the bar,
which is left untouched. At the bar's last minute that is the closed bar's value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.candles.batch import BoolArray, FloatArray, IntArray
from app.market.bars import BarsSoFar, closes_quarter, closing_quarters, ends_of_fives
from app.market.blocks import Block
from app.market.columns import BAR_FIELDS
from app.market.layout import CLOSE, HIGH, LENGTHS, LONG, NEGATED_LOW, QUARTERS_OF_LONG, TIMEFRAME_COUNT
from app.market.recursion import (
    AVERAGES,
    BARS,
    EMA_20,
    EMA_50,
    FAST,
    GAIN,
    LAST_CLOSE,
    LOSS,
    RANGE,
    SIGNAL,
    SLOW,
    Bars,
    advance,
    inputs,
    weights,
)
from app.market.sequences import total
from app.market.state import LONG_CLOSES, Columns, State, at, pick
from app.market.storage import load_prices
from app.market.window_fields import FieldView

BAND_BARS: Final = 20
_PAST: Final = BAND_BARS - 1
_BAND_WIDTH: Final = 2.0
_TA_LIB_ZERO: Final = 1e-14
"""Below this TA-Lib takes the sum of gains and losses for zero, and the RSI is 0."""
FIRST_WITH_OWN_CLOSES: Final = 4
"""Position of 4h, the first timeframe whose closes are kept apart."""


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """The recursive state before the bar of each minute of a block.

    short: (2, 10, T, W), of 1m and 5m. long: (5, 10, W), of 15m and longer, whose bar the block does not
    leave. usable: (7, T, W), whether that state and the bar so far are whole.
    """

    short: FloatArray
    long: FloatArray
    usable: BoolArray


def peek(state: State, block: Block, bars: BarsSoFar) -> Before:
    """For a single forming minute: the state as it stands."""
    recursive = at(state.recursive, block.columns)
    usable = bars.complete & (state.stand[block.columns] < block.first)
    return Before(recursive[:2, :, np.newaxis], recursive[2:], usable)


def take_block(state: State, block: Block, bars: BarsSoFar) -> Before:
    """Takes every bar that closes in the block into the state, which then stands at the block's last
    minutes."""
    columns = block.columns
    active = _to_be_taken(state, block)
    usable = bars.complete
    if active is not block.active:
        minutes = np.arange(block.first, block.last + 1)[:, np.newaxis]
        usable = usable & (minutes > state.stand[columns])
    long = np.array(at(state.recursive[2:], columns))
    short = np.empty((2, state.recursive.shape[1], block.length, block.width))
    every = list(range(block.length))
    short[0] = _take_bars(state, 0, block, bars, every, active).transpose(1, 0, 2)
    _take_fives(state, block, bars, active, short[1])
    if closes_quarter(block):
        for timeframe in closing_quarters(block.quarter):
            _take_bars(state, timeframe, block, bars, every[-1:], active)
            if timeframe >= FIRST_WITH_OWN_CLOSES:
                _keep_close(state, timeframe, block, active)
    _stand(state, block, active)
    return Before(short, long, usable)


def _take_fives(
    state: State, block: Block, bars: BarsSoFar, active: BoolArray | None, out: FloatArray
) -> None:
    """out: (10, T, W), the state before the 5m bar of each minute."""
    ends = ends_of_fives(block)
    start = 0
    for end, before in zip(ends, _take_bars(state, 1, block, bars, ends, active), strict=True):
        out[:, start : end + 1] = before[:, np.newaxis]
        start = end + 1
    if start < block.length:
        out[:, start:] = at(state.recursive[1], block.columns)[:, np.newaxis]


def _to_be_taken(state: State, block: Block) -> BoolArray | None:
    """(T, W): the active minutes after the one at which the state stands; None when that is all."""
    ahead = state.stand[block.columns] >= block.first
    if not ahead.any():
        return block.active
    minutes = np.arange(block.first, block.last + 1)[:, np.newaxis]
    fresh: BoolArray = minutes > state.stand[block.columns]
    return fresh if block.active is None else fresh & block.active


def _take_bars(
    state: State, timeframe: int, block: Block, bars: BarsSoFar, ends: list[int], active: BoolArray | None
) -> FloatArray:
    """Takes the bars that end at these rows; answers the state before each, (len(ends), 10, W)."""
    if not ends:
        return np.empty((0, state.recursive.shape[1], block.width))
    recursive = np.array(at(state.recursive[timeframe], block.columns))
    complete = bars.complete[timeframe, ends]
    taken = Bars(
        bars.extremes[HIGH, timeframe, ends],
        bars.extremes[NEGATED_LOW, timeframe, ends],
        block.close[ends],
        None if complete.all() else complete,
        None if active is None else active[ends],
    )
    before = advance(recursive, taken)
    state.recursive[timeframe][:, block.columns] = recursive
    return before


def _keep_close(state: State, timeframe: int, block: Block, active: BoolArray | None) -> None:
    row = (block.last // int(LENGTHS[timeframe])) % LONG_CLOSES
    closes = state.long_closes[timeframe - FIRST_WITH_OWN_CLOSES, row]
    close = block.close[-1]
    closes[block.columns] = close if active is None else np.where(active[-1], close, closes[block.columns])


def _stand(state: State, block: Block, active: BoolArray | None) -> None:
    if active is None:
        state.stand[block.columns] = block.last
        return
    minutes = np.arange(block.first, block.last + 1)[:, np.newaxis]
    latest = np.where(active, minutes, -1).max(axis=0)
    state.stand[block.columns] = np.maximum(state.stand[block.columns], latest)


def band_table(state: State, quarter: int, columns: Columns) -> FloatArray:
    """(5, 2, W): mean, and sum of squared deviations, of the last 19 closes of 15m and longer before
    `quarter`."""
    closes = np.empty((_PAST, 5, state.newest[columns].shape[0]))
    back = np.arange(_PAST, 0, -1)
    for row, length in enumerate(QUARTERS_OF_LONG):
        bar = quarter // length
        if 2 + row < FIRST_WITH_OWN_CLOSES:
            rows = ((bar - back + 1) * length - 1) % state.quarter_rows
            closes[:, row] = pick(state.quarter_close, rows, columns)
        else:
            rows = (bar - back) % LONG_CLOSES
            closes[:, row] = pick(state.long_closes[2 + row - FIRST_WITH_OWN_CLOSES], rows, columns)
    return spread_of(closes).transpose(1, 0, 2)


def spread_of(closes: FloatArray) -> FloatArray:
    """(2, ...): mean and sum of squared deviations over axis 0, added up in its order."""
    mean = total(closes) / len(closes)
    deviations = closes - mean
    deviations *= deviations
    return np.stack((mean, total(deviations)))


def bands_before(state: State, block: Block, fives: FloatArray) -> FloatArray:
    """(7, 2, T, W): mean and sum of squared deviations of the 19 closes before the bar of each minute.

    fives: (2, T, W), those of 5m.
    """
    bands = np.empty((TIMEFRAME_COUNT, 2, block.length, block.width))
    minutes = np.arange(block.first - _PAST, block.first)
    closes = np.concatenate((load_prices(state, CLOSE, minutes, block.columns), block.close))
    windows = np.arange(_PAST)[:, np.newaxis] + np.arange(block.length)
    bands[0] = spread_of(closes[windows])
    bands[1] = fives
    bands[2:] = at(state.table_bands, block.columns)[:, :, np.newaxis]
    return bands


def past_five_closes(state: State, numbers: IntArray, columns: Columns) -> FloatArray:
    """(19, F, W): closes of the 19 5m bars before each of the bars of these numbers, oldest first."""
    before = numbers - np.arange(_PAST, 0, -1)[:, np.newaxis]
    return pick(state.five_closes, before % state.five_rows, columns)


class IndicatorFields:
    """Fills the bar fields asked for."""

    def __init__(self, names: set[str]) -> None:
        self._names = names & set(BAR_FIELDS)
        self.bands = not names.isdisjoint({"bb_upper", "bb_middle", "bb_lower"})

    def fill(self, before: Before, bars: BarsSoFar, close: FloatArray, field: FieldView) -> None:
        """The recursive fields of all timeframes."""
        if len(close) == 1:
            states = np.concatenate((before.short, before.long[:, :, np.newaxis]))
            self._fill_recursive(states, bars, close, before.usable, slice(0, TIMEFRAME_COUNT), field)
            return
        self._fill_recursive(before.short, bars, close, before.usable, slice(0, 2), field)
        self._fill_recursive(before.long[:, :, np.newaxis], bars, close, before.usable, LONG, field)

    def _fill_recursive(
        self,
        before: FloatArray,
        bars: BarsSoFar,
        close: FloatArray,
        usable: BoolArray,
        timeframes: slice,
        field: FieldView,
    ) -> None:
        """Those of some timeframes; before: (k, 10, T or 1, W)."""
        n = before[:, BARS]
        if not usable[timeframes].all():
            n = np.where(usable[timeframes], n, -1.0)
        weight = weights(n, null_until_warm=True)
        averages = before[:, AVERAGES].swapaxes(0, 1)
        high, negated_low = bars.extremes[HIGH, timeframes], bars.extremes[NEGATED_LOW, timeframes]
        taken = inputs(high, negated_low, close, before[:, LAST_CLOSE])
        taken -= averages
        taken *= weight[:7]
        taken += averages
        self._fill_averages(taken, before[:, SIGNAL], weight[7], timeframes, field)

    def _fill_averages(
        self,
        averages: FloatArray,
        signal: FloatArray,
        weight: FloatArray,
        timeframes: slice,
        field: FieldView,
    ) -> None:
        names = self._names
        for name, row in (("ema_20", EMA_20), ("ema_50", EMA_50), ("atr_14", RANGE)):
            if name in names:
                field(name)[timeframes] = averages[row]
        if "rsi_14" in names:
            moved = averages[GAIN] + averages[LOSS]
            still = moved < _TA_LIB_ZERO
            np.divide(averages[GAIN], moved, out=moved)
            moved *= 100.0
            if still.any():
                moved[still] = 0.0
            field("rsi_14")[timeframes] = moved
        if names.isdisjoint({"macd", "macd_signal", "macd_hist"}):
            return
        macd = averages[FAST] - averages[SLOW]
        new_signal = signal + (macd - signal) * weight
        if "macd" in names:
            field("macd")[timeframes] = macd
        if "macd_signal" in names:
            field("macd_signal")[timeframes] = new_signal
        if "macd_hist" in names:
            np.subtract(macd, new_signal, out=field("macd_hist")[timeframes])

    def fill_bands(self, bands: FloatArray, before: Before, close: FloatArray, field: FieldView) -> None:
        """bands: what `bands_before` gave. Adds the current close to the 19 without cancellation:
        mean += d / 20 and squares += d * d * 19 / 20, with d = close - mean (Welford's update)."""
        n = np.empty(before.usable.shape)
        n[:2], n[2:] = before.short[:, BARS], before.long[:, BARS, np.newaxis]
        missing = (n < _PAST) | ~before.usable
        if missing.any():
            bands[:, 0][missing] = np.nan
        distance = close - bands[:, 0]
        middle = bands[:, 0] + distance / BAND_BARS
        distance *= distance
        distance *= _PAST / BAND_BARS
        distance += bands[:, 1]
        distance /= BAND_BARS
        width = np.sqrt(distance, out=distance)
        width *= _BAND_WIDTH
        if "bb_middle" in self._names:
            field("bb_middle")[:] = middle
        if "bb_upper" in self._names:
            np.add(middle, width, out=field("bb_upper"))
        if "bb_lower" in self._names:
            np.subtract(middle, width, out=field("bb_lower"))


def lapse(state: State, columns: Columns, minute: int) -> None:
    """Time went on to `minute` without candles: runs of bars that ended in between are over."""
    stand = state.stand[columns]
    for timeframe, length in enumerate(LENGTHS.tolist()):
        broken = (stand + 1) // length < minute // length
        if broken.any():
            some = np.arange(state.used)[columns][broken]
            state.recursive[timeframe][:, some] = 0.0
    state.stand[columns] = np.maximum(stand, minute - 1)
    sow(state, columns, minute)


def sow(state: State, columns: Columns, minute: int) -> None:
    """Puts in warmed-up states that stand before the bar of `minute`, where they know more bars."""
    if not (state.seed_minute[:, columns] >= 0).any():
        return
    for timeframe, length in enumerate(LENGTHS.tolist()):
        seeded = state.seed_minute[timeframe, columns]
        fits = (seeded >= 0) & ((seeded + 1) // length == minute // length)
        fits &= state.seed[timeframe, BARS, columns] > state.recursive[timeframe, BARS, columns]
        if fits.any():
            some = np.arange(state.used)[columns][fits]
            state.recursive[timeframe][:, some] = state.seed[timeframe][:, some]
