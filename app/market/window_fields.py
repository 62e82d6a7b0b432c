"""The window and pivot fields of a block, from its windows.

`columns.py` defines them. Fibonacci pivots: pivot = (H + L + C) / 3, levels at 0.382, 0.618 and 1.0 of the range
H - L above and below it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from app.candles.batch import BoolArray, FloatArray
from app.market.blocks import Block
from app.market.columns import PIVOT_FIELDS
from app.market.layout import CLOSE, COUNT, HIGH, LENGTHS, NEGATED_LOW, OPEN, QUOTE, TRADES, VOLUME
from app.market.plan import Plan
from app.market.state import State
from app.market.storage import load_prices
from app.market.surroundings import Surroundings
from app.market.windows import Windows, WindowValues, whole

_LENGTHS: Final = LENGTHS[:, np.newaxis, np.newaxis]
_FIBONACCI: Final = (
    (0.382, "fib_r1", "fib_s1"), (0.618, "fib_r2", "fib_s2"), (1.0, "fib_r3", "fib_s3"),
)  # fmt: skip

FieldView = Callable[[str], FloatArray]
"""Name of a field -> the (7, T, W) array to fill."""


def price_fields(state: State, block: Block, plan: Plan, field: FieldView) -> None:
    """open, close and price_change: null only if the one or two minutes they stand on are missing."""
    if plan.wants("close"):
        field("close")[:] = block.close
    minutes = np.arange(block.first, block.first + block.length)
    if plan.wants("open"):
        opens = field("open")
        opens[0] = block.open
        first = minutes - LENGTHS[1:, np.newaxis] + 1
        opens[1:] = load_prices(state, OPEN, first, block.columns)
    if plan.wants("price_change"):
        change = field("price_change")
        before = load_prices(state, CLOSE, minutes - LENGTHS[:, np.newaxis], block.columns)
        np.divide(block.close, before, out=change)
        change -= 1.0
        change *= 100.0


def window_fields(
    state: State,
    block: Block,
    around: Surroundings,
    windows: Windows,
    plan: Plan,
    field: FieldView,
    single: FieldView,
) -> None:
    """Everything that stands on the sums and extremes of the windows: null until the window is whole."""
    values = windows.evaluate(state, block, around)
    counts = values.sums[COUNT]
    if plan.wants("coverage"):
        np.divide(counts, _LENGTHS, out=field("coverage"))
    _blank_partial(values)
    for name, plane in (("quote_volume", QUOTE), ("base_volume", VOLUME), ("trades", TRADES)):
        if plan.wants(name):
            field(name)[:] = values.sums[plane]
    if values.previous is not None:
        _volume_ratio(values.sums[QUOTE], values.previous, field("volume_ratio"))
    vwap = None
    if plan.wants("vwap", "vcp"):
        vwap = field("vwap") if plan.wants("vwap") else np.empty_like(counts)
        np.divide(values.sums[QUOTE], values.sums[VOLUME], out=vwap)
        untraded = values.sums[VOLUME] == 0.0
        if untraded.any():
            vwap[untraded] = np.nan
    if values.extremes is not None:
        _range_fields(block.close, vwap, values.extremes, plan, field)
    if values.ten is not None:
        _ten_minutes(values.ten, plan, single)


def _blank_partial(values: WindowValues) -> None:
    """Nulls the sums and extremes of windows that miss a minute."""
    complete = whole(values.sums[COUNT])
    if complete.all():
        return
    missing = ~complete
    for plane in (QUOTE, VOLUME, TRADES):
        if plane < len(values.sums):
            values.sums[plane][missing] = np.nan
    if values.extremes is not None:
        values.extremes[:, missing] = np.nan


def _volume_ratio(quote: FloatArray, previous: FloatArray, out: FloatArray) -> None:
    np.divide(quote, previous[QUOTE], out=out)
    unusable: BoolArray = (previous[COUNT] != _LENGTHS) | (previous[QUOTE] == 0.0)
    if unusable.any():
        out[unusable] = np.nan


def _ten_minutes(extremes: FloatArray, plan: Plan, single: FieldView) -> None:
    if plan.wants("high_10m"):
        single("high_10m")[:] = extremes[HIGH]
    if plan.wants("low_10m"):
        np.negative(extremes[NEGATED_LOW], out=single("low_10m"))


def _range_fields(
    close: FloatArray, vwap: FloatArray | None, extremes: FloatArray, plan: Plan, field: FieldView
) -> None:
    high = extremes[HIGH]
    low = np.negative(extremes[NEGATED_LOW])
    if plan.wants("high"):
        field("high")[:] = high
    if plan.wants("low"):
        field("low")[:] = low
    spread = high - low
    if plan.wants("vcp") and vwap is not None:
        vcp = field("vcp")
        np.divide((close - low) - (high - close), spread, out=vcp)
        vcp *= close / vwap
        still = spread == 0.0
        if still.any():
            vcp[still] = 0.0
    if plan.wants(*PIVOT_FIELDS):
        pivot = high + low
        pivot += close
        pivot /= 3.0
        _pivots(pivot, spread, plan, field)


def _pivots(pivot: FloatArray, spread: FloatArray, plan: Plan, field: FieldView) -> None:
    if plan.wants("fib_pivot"):
        field("fib_pivot")[:] = pivot
    for ratio, resistance, support in _FIBONACCI:
        if plan.wants(resistance, support):
            step = spread * ratio
            if plan.wants(resistance):
                np.add(pivot, step, out=field(resistance))
            if plan.wants(support):
                np.subtract(pivot, step, out=field(support))
