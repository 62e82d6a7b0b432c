"""Warming up the indicators of a timeframe from the exchange's own bars of that interval."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, CandleBatch, FloatArray, IntArray
from app.market.indicators import BAND_BARS, FIRST_WITH_OWN_CLOSES
from app.market.layout import LENGTHS, NO_MINUTE, QUARTER
from app.market.recursion import Bars, advance
from app.market.replay import mark_changed
from app.market.state import RECURSIVE_ROWS, State
from app.market.timeframes import TIMEFRAMES


def warm_up(state: State, timeframe: str, bars: CandleBatch, columns: NDArray[np.intp]) -> None:
    """Computes the state after each symbol's last unbroken run of bars and keeps it as a seed.

    columns: (rows,). The seed comes into force at the bar that follows the run.
    """
    position = list(TIMEFRAMES).index(timeframe)
    length = int(LENGTHS[position])
    for numbers, high, negated_low, close, group in _runs(bars, columns, length):
        recursive = np.zeros((RECURSIVE_ROWS, len(group)))
        advance(recursive, Bars(high, negated_low, close))
        last = int(numbers[-1]) * length + length - 1
        state.seed[position][:, group] = recursive
        state.seed_minute[position, group] = last
        _keep_closes(state, position, length, numbers[-BAND_BARS:], close[-BAND_BARS:], group)
        state.table_quarter[group] = NO_MINUTE
        state.five_bar[group] = NO_MINUTE
        mark_changed_after(state, group, last + 1)


def mark_changed_after(state: State, columns: NDArray[np.intp], minute: int) -> None:
    started = columns[state.newest[columns] != NO_MINUTE]
    origin = state.origin[started].copy()
    mark_changed(state, started, np.full(len(started), minute))
    state.origin[started] = origin


def _runs(
    bars: CandleBatch, columns: NDArray[np.intp], length: int
) -> Iterator[tuple[IntArray, FloatArray, FloatArray, FloatArray, NDArray[np.intp]]]:
    """Numbers, highs, negated lows and closes (B, W) of the last unbroken runs, symbols with the same run
    together."""
    number = bars.open_time_ms // (length * MINUTE_MS)
    groups: dict[tuple[int, int], list[tuple[int, NDArray[np.intp]]]] = {}
    for column in np.unique(columns).tolist():
        rows = np.flatnonzero((columns == column) & bars.closed)
        if not len(rows):
            continue
        # The later of two bars with one number wins, as a correction would.
        numbers, last = np.unique(number[rows][::-1], return_index=True)
        rows = rows[::-1][last]
        if length < QUARTER:
            whole = (numbers + 1) * length % QUARTER == 0
            keep = int(np.flatnonzero(whole)[-1]) + 1 if whole.any() else 0
            numbers, rows = numbers[:keep], rows[:keep]
        breaks = np.flatnonzero(np.diff(numbers) != 1)
        start = int(breaks[-1]) + 1 if len(breaks) else 0
        if len(rows) > start:
            groups.setdefault((int(numbers[start]), int(numbers[-1])), []).append((column, rows[start:]))
    for (first, last_number), members in groups.items():
        chosen = np.stack([rows for _, rows in members], axis=1)
        yield (
            np.arange(first, last_number + 1), bars.high[chosen], -bars.low[chosen], bars.close[chosen],
            np.array([column for column, _ in members], dtype=np.intp),
        )  # fmt: skip


def _keep_closes(
    state: State, position: int, length: int, numbers: IntArray, close: FloatArray, columns: NDArray[np.intp]
) -> None:
    """Stores the last closes for the bands, in the ring of the timeframe, never over those of later bars."""
    if position == 1:
        ring, per_row = state.five_closes, length
    elif position < FIRST_WITH_OWN_CLOSES:
        ring, per_row = state.quarter_close, QUARTER
    else:
        ring, per_row = state.long_closes[position - FIRST_WITH_OWN_CLOSES], length
    newest = np.maximum(state.newest[columns], state.stand[columns])
    for number, closes in zip(numbers.tolist(), close, strict=True):
        end = number * length + length - 1
        row = end // per_row
        # The ring has made room for the row after the newest minute's already.
        free = ((newest + 1) // per_row < row + len(ring)) | (newest == NO_MINUTE)
        known = (state.known[end % state.quote_rows, columns] == 1) & (end <= newest)
        chosen = free & ~(known & (newest - end < state.quote_rows))
        ring[row % len(ring), columns[chosen]] = closes[chosen]
