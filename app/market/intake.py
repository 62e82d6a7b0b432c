"""Taking closed candles into the rings, in order of time, and cutting them into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import IntArray
from app.market import since
from app.market.blocks import Block, Candles, dense_shape
from app.market.indicators import lapse
from app.market.layout import CLOSE, COUNT, NO_MINUTE, OPEN, QUARTER
from app.market.state import Columns, State, at
from app.market.storage import (
    FIVES_IN_QUARTER,
    begin_quarter,
    complete_five,
    forget_span,
    load,
    load_prices,
    write_block,
    write_rows,
)
from app.market.surroundings import Heads, running_totals


def by_quarter(candles: Candles) -> Iterator[tuple[int, Candles]]:
    """The candles of each quarter, in order of time."""
    quarters = candles.minutes // QUARTER
    first, last = int(quarters.min()), int(quarters.max())
    if first == last:
        yield first, candles
        return
    for quarter in range(first, last + 1) if last - first < len(quarters) else np.unique(quarters).tolist():
        chosen = np.flatnonzero(quarters == quarter)
        if len(chosen):
            yield quarter, candles.take(chosen)


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """A block of closed candles that are in the rings now.

    positions: (W,), its symbols. heads: its quarter's running totals. rows: (T, W), the candles' rows in
    their batch, -1 for minutes of the block that are not among them.
    """

    block: Block
    positions: NDArray[np.intp]
    heads: Heads
    rows: NDArray[np.intp]


def take_in(state: State, quarter: int, candles: Candles) -> Taken:
    """Takes closed candles of one quarter, all newer than their symbol's newest, none twice."""
    seen = np.zeros(state.used, dtype=np.bool_)
    seen[candles.columns] = True
    positions = np.flatnonzero(seen)
    first, last = int(candles.minutes.min()), int(candles.minutes.max())
    regular = len(candles) == (last - first + 1) * len(positions)
    if regular:
        _pass_time(state, positions, np.full(len(positions), first))
        return _take_grid(state, quarter, first, last, positions, candles)
    return _take_scattered(state, quarter, last, positions, candles)


def _take_grid(
    state: State, quarter: int, first: int, last: int, positions: NDArray[np.intp], candles: Candles
) -> Taken:
    """Every symbol has every minute first .. last, and each stands at the minute before."""
    length, width = last - first + 1, len(positions)
    place = np.empty(state.used, dtype=np.intp)
    place[positions] = np.arange(width)
    cells = (candles.minutes - first) * width + place[candles.columns]
    if (cells[1:] < cells[:-1]).any():
        order = np.empty(len(cells), dtype=np.intp)
        order[cells] = np.arange(len(cells))
        candles = candles.take(order)
    columns = state.columns(positions)
    block = Block(
        quarter, first - quarter * QUARTER, columns,
        candles.sums.reshape(4, length, width),
        candles.extremes.reshape(2, length, width),
        candles.prices.reshape(2, length, width),
        known=None, active=None,
    )  # fmt: skip
    heads = running_totals(block, quarter_so_far(state, block))
    write_block(state, block)
    state.newest[columns] = last
    _close_quarter(state, block, heads)
    return Taken(block, positions, heads, candles.rows.reshape(length, width))


def quarter_so_far(state: State, block: Block) -> Heads | None:
    """The quarter's sums and extremes before the block; None at its start."""
    if not block.offset:
        return None
    row, columns = block.quarter % state.quarter_rows, block.columns
    return at(state.quarter_sums[:, row], columns), at(state.quarter_extremes[:, row], columns)


def _take_scattered(
    state: State, quarter: int, last: int, positions: NDArray[np.intp], candles: Candles
) -> Taken:
    """Symbols have different minutes: the block is the quarter from its start, read back from the rings."""
    firsts = np.full(state.used, np.iinfo(np.int64).max)
    np.minimum.at(firsts, candles.columns, candles.minutes)
    lasts = np.zeros(state.used, dtype=np.int64)
    np.maximum.at(lasts, candles.columns, candles.minutes)
    _pass_time(state, positions, firsts[positions])
    before = state.newest[positions].copy()
    for column in positions.tolist():
        forget_span(state, column, int(state.newest[column]) + 1, int(lasts[column]))
    state.newest[positions] = lasts[positions]
    write_rows(state, candles)
    columns = state.columns(positions)
    block = read_block(state, quarter, columns, before)
    heads = running_totals(block, None)
    _close_quarter(state, block, heads)
    rows = np.full((block.length, state.used), -1)
    rows[candles.minutes - block.first, candles.columns] = candles.rows
    return Taken(block, positions, heads, rows[:, positions])


def read_block(state: State, quarter: int, columns: Columns, before: IntArray) -> Block:
    """A quarter, up to the newest minute of these symbols in it, from the rings.

    before: (W,), minutes up to here are not active: the state has dealt with them.
    """
    newest = state.newest[columns]
    last = min(int(newest.max()), quarter * QUARTER + QUARTER - 1)
    minutes = np.arange(quarter * QUARTER, last + 1)
    sums, extremes = load(state, minutes, columns, 4, True)
    prices = np.stack([load_prices(state, plane, minutes, columns) for plane in (OPEN, CLOSE)])
    assert extremes is not None
    ahead = minutes[:, np.newaxis] > newest
    if ahead.any():
        nothing = dense_shape(*ahead.shape)
        sums = np.where(ahead, nothing[0], sums)
        extremes = np.where(ahead, nothing[1], extremes)
        prices = np.where(ahead, nothing[2], prices)
    known = sums[COUNT] == 1.0
    active = ~ahead & (minutes[:, np.newaxis] > before)
    return Block(
        quarter, 0, columns, sums, extremes, prices,
        known=None if known.all() else known,
        active=None if active.all() else active,
    )  # fmt: skip


def _close_quarter(state: State, block: Block, heads: Heads) -> None:
    """Stores what the quarter adds up to so far, and begins the next one for symbols that reached its end."""
    row = block.quarter % state.quarter_rows
    state.quarter_sums[:, row, block.columns] = heads[0][:, -1]
    state.quarter_extremes[:, row, block.columns] = heads[1][:, -1]
    _close_fives(state, block)
    if block.offset + block.length < QUARTER:
        return
    columns = block.columns
    if block.active is not None:
        columns = np.arange(state.used)[columns][block.active[-1]]
    close = load_prices(state, CLOSE, np.array(block.last), columns)
    state.quarter_close[row, columns] = close
    _begin(state, block.quarter + 1, columns)


def _close_fives(state: State, block: Block) -> None:
    first, until = block.offset // 5, (block.offset + block.length) // 5
    if first == until:
        return
    columns = block.columns
    if block.offset == 0 and block.length == QUARTER and block.active is None:
        for five in range(FIVES_IN_QUARTER):
            complete_five(state, block.quarter, five, columns, block.sums, block.close[5 * five + 4])
        return
    minutes = block.quarter * QUARTER + np.arange(QUARTER)
    for five in range(first, until):
        end = 5 * five + 4 - block.offset
        close = block.close[end]
        if block.active is not None:
            columns = np.arange(state.used)[block.columns][block.active[end]]
            close = close[block.active[end]]
        sums, _ = load(state, minutes, columns, 2, False)
        complete_five(state, block.quarter, five, columns, sums, close)


def _begin(state: State, quarter: int, columns: Columns) -> None:
    if isinstance(columns, np.ndarray) and not len(columns):
        return
    since.retire_quarters(state, quarter, columns)
    begin_quarter(state, quarter, columns)


def _pass_time(state: State, positions: NDArray[np.intp], firsts: IntArray) -> None:
    """Brings each symbol to the minute before its next candle; the minutes between are missing."""
    newest = state.newest[positions]
    jumps = newest != firsts - 1
    if not jumps.any():
        return
    for column, first in zip(positions[jumps].tolist(), firsts[jumps].tolist(), strict=True):
        pass_time(state, column, first)


def pass_time(state: State, column: int, first: int) -> None:
    """Brings one symbol to the minute before `first`; the minutes between are missing."""
    newest = int(state.newest[column])
    if newest != NO_MINUTE and first - newest > state.quote_rows:
        # Nothing of what the rings hold is left; longer bars and the week are broken as well.
        state.reset(np.array([column]))
        newest = NO_MINUTE
    if newest == NO_MINUTE:
        if state.week_quarter[column] == NO_MINUTE:
            state.week_quarter[column] = first // QUARTER - (state.retention.minute_quarters - 1)
        if state.origin[column] == NO_MINUTE:
            state.origin[column] = first
    else:
        forget_span(state, column, newest + 1, first - 1)
        for quarter in range((newest + 1) // QUARTER + 1, first // QUARTER + 1):
            _begin(state, quarter, np.array([column]))
    # Indicators that lag behind, while minutes are being restored, meet the gap when they are brought up.
    if state.stand[column] >= newest and state.stand[column] < first - 1:
        lapse(state, np.array([column]), first)
    state.newest[column] = first - 1
