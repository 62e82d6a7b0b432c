"""Writing minutes into the rings and reading them back, by time."""

from __future__ import annotations

import numpy as np

from app.candles.batch import BoolArray, FloatArray, IntArray
from app.market.blocks import Block, Candles
from app.market.layout import CLOSE, COUNT, QUARTER, QUOTE, TRADES, VOLUME
from app.market.sequences import total
from app.market.state import Columns, State, pick

FIVES_IN_QUARTER = QUARTER // 5


def load(state: State, minutes: IntArray, columns: Columns, sum_planes: int, extremes: bool) -> tuple[
    FloatArray, FloatArray | None
]:  # fmt: skip
    """Sums (sum_planes, *minutes.shape, W) and extremes (2, *minutes.shape, W), or None, of these minutes.

    The caller asks only for minutes that the rings still hold.
    """
    rows = minutes % state.quote_rows
    quote = pick(state.quote, rows, columns)
    sums = np.empty((sum_planes, *quote.shape))
    sums[QUOTE] = quote
    np.equal(pick(state.known, rows, columns), 1, out=sums[COUNT])
    if sum_planes == 2 and not extremes:
        return sums, None
    rows = minutes % state.minute_rows
    first, last = (0 if sum_planes > 2 else 2), (4 if extremes else 2)
    planes = pick(state.minutes[first:last], rows, columns)
    if sum_planes > 2:
        sums[VOLUME:] = planes[: sum_planes - 2]
    return sums, planes[-2:] if extremes else None


def load_prices(state: State, plane: int, minutes: IntArray, columns: Columns) -> FloatArray:
    """Opens or closes, NaN where missing: shape (*minutes.shape, W)."""
    return pick(state.minutes[plane], minutes % state.minute_rows, columns)


def write_block(state: State, block: Block) -> None:
    """Puts the block's active minutes into the rings."""
    first = block.first
    ring = slice(first % state.minute_rows, first % state.minute_rows + block.length)
    quote_ring = slice(first % state.quote_rows, first % state.quote_rows + block.length)
    planes = np.concatenate((block.sums[VOLUME:], block.extremes, block.prices))
    quote = block.sums[QUOTE]
    known = block.sums[COUNT].astype(np.uint8)
    if block.active is not None:
        planes = np.where(block.active, planes, state.minutes[:, ring, block.columns])
        quote = np.where(block.active, quote, state.quote[quote_ring, block.columns])
        known = np.where(block.active, known, state.known[quote_ring, block.columns])
    state.minutes[:, ring, block.columns] = planes
    state.quote[quote_ring, block.columns] = quote
    state.known[quote_ring, block.columns] = known


def write_rows(state: State, candles: Candles) -> None:
    """Puts single closed candles, no two of a minute, into the rings that still hold their minute."""
    newest = state.newest[candles.columns]
    rows = candles.minutes % state.quote_rows
    state.quote[rows, candles.columns] = candles.sums[QUOTE]
    state.known[rows, candles.columns] = 1
    held = candles.minutes > newest - state.minute_rows
    if not held.all():
        candles = candles.take(held)
    rows = candles.minutes % state.minute_rows
    state.minutes[0, rows, candles.columns] = candles.sums[VOLUME]
    state.minutes[1, rows, candles.columns] = candles.sums[TRADES]
    state.minutes[2:4, rows, candles.columns] = candles.extremes
    state.minutes[4:6, rows, candles.columns] = candles.prices


def differs(state: State, candles: Candles) -> BoolArray:
    """(n,) whether each candle, of a known minute, tells something else than the rings."""
    columns = candles.columns
    rows = candles.minutes % state.quote_rows
    quote_differs = state.quote[rows, columns] != candles.sums[QUOTE]
    held = candles.minutes > state.newest[columns] - state.minute_rows
    rows = candles.minutes % state.minute_rows
    mine = np.concatenate((candles.sums[VOLUME:], candles.extremes, candles.prices))
    different: BoolArray = held & (quote_differs | (state.minutes[:, rows, columns] != mine).any(axis=0))
    return different


def summarise_quarter(state: State, quarter: int, columns: Columns) -> None:
    """Recomputes a quarter's totals and fives from its minutes, to the bit as they build up one by one.

    A quarter whose minutes have partly left the ring keeps its volume totals and becomes unusable for bars.
    """
    minutes = quarter * QUARTER + np.arange(QUARTER)
    sums, extremes = load(state, minutes, columns, 4, True)
    assert extremes is not None
    ahead = minutes[:, np.newaxis] > state.newest[columns]
    sums[:, ahead] = 0.0
    extremes[:, ahead] = -np.inf
    row = quarter % state.quarter_rows
    state.quarter_sums[:, row, columns] = total(sums, axis=1)
    state.quarter_extremes[:, row, columns] = extremes.max(axis=1)
    closes = load_prices(state, CLOSE, minutes, columns)
    closes[ahead] = np.nan
    # Where the last minute is unknown, a close from warming up may stand here.
    close = np.where(sums[COUNT, -1] == 1.0, closes[-1], state.quarter_close[row, columns])
    state.quarter_close[row, columns] = close
    gone = state.newest[columns] - state.minute_rows >= minutes[0]
    if gone.any():
        lost = np.arange(state.used)[columns][gone]
        state.quarter_sums[VOLUME:, row, lost] = np.nan
        state.quarter_extremes[:, row, lost] = np.nan
        state.quarter_close[row, lost] = np.nan
    # The ring of fives is shorter, and already has room for the quarter after the newest.
    oldest = state.newest[columns] // QUARTER + 2 - state.five_rows // FIVES_IN_QUARTER
    held = quarter >= oldest
    if held.any():
        chosen = np.arange(state.used)[columns][held]
        for five in range(FIVES_IN_QUARTER):
            complete_five(state, quarter, five, chosen, sums[:, :, held], closes[5 * five + 4, held])


def complete_five(
    state: State, quarter: int, five: int, columns: Columns, sums: FloatArray, close: FloatArray
) -> None:
    """Stores volume and close of the quarter's 5m bar `five` (0..2); sums: (>= 2, 15, W), close: (W,)."""
    part = total(sums[: COUNT + 1, 5 * five : 5 * five + 5], axis=1)
    row = (quarter * FIVES_IN_QUARTER + five) % state.five_rows
    state.fives[row, columns] = np.where(part[COUNT] == 5, part[QUOTE], np.nan)
    state.five_closes[row, columns] = np.where(np.isnan(close), state.five_closes[row, columns], close)


def begin_quarter(state: State, quarter: int, columns: Columns) -> None:
    """Makes the rings' row of a quarter empty, before its first minute."""
    row = quarter % state.quarter_rows
    state.quarter_sums[:, row, columns] = 0.0
    state.quarter_extremes[:, row, columns] = -np.inf
    state.quarter_close[row, columns] = np.nan
    fives = (quarter * FIVES_IN_QUARTER + np.arange(FIVES_IN_QUARTER)) % state.five_rows
    for ring in (state.fives, state.five_closes):
        ring[fives if isinstance(columns, slice) else fives[:, np.newaxis], columns] = np.nan


def forget_span(state: State, column: int, first: int, last: int) -> None:
    """Marks the minutes first .. last of one symbol as missing: time went on without them.

    Those that restored indicators have absorbed keep that mark.
    """
    minutes = np.arange(max(first, last - state.quote_rows + 1), last + 1)
    rows = minutes % state.quote_rows
    state.quote[rows, column] = 0.0
    absorbed = (state.known[rows, column] == 2) & (minutes <= state.absorbed_until[column])
    state.known[rows, column] = np.where(absorbed, 2, 0)
    rows = minutes[-state.minute_rows :] % state.minute_rows
    state.minutes[:2, rows, column] = 0.0
    state.minutes[2:4, rows, column] = -np.inf
    state.minutes[4:6, rows, column] = np.nan
