"""From a block to its metric values: every column of the plan, for every minute of the block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.candles.batch import FloatArray
from app.market import formations, indicators, since
from app.market.bars import BarsSoFar
from app.market.blocks import Block
from app.market.indicators import Before
from app.market.layout import TIMEFRAME_COUNT
from app.market.plan import Plan
from app.market.state import State
from app.market.surroundings import Heads, Surroundings, surroundings_of
from app.market.window_fields import price_fields, window_fields
from app.market.windows import Windows

_CLOUD: Final = (
    "ichimoku_conversion_15m", "ichimoku_base_15m", "ichimoku_span_a_15m", "ichimoku_span_b_15m",
)  # fmt: skip
_BUBBLES: Final = (
    "bubble_z_5m", "bubble_size_5m", "bubble_side_5m", "bubble_z_15m", "bubble_size_15m", "bubble_side_15m",
)  # fmt: skip
_SURGE: Final = ("surge_ratio_5m", "surge_side_5m")
_VWAP_SINCE: Final = ("vwap_day", "vwap_week")


@dataclass(frozen=True, slots=True, eq=False)
class _Buffer:
    """The values of a block: (7 x fields, then single columns, T, W)."""

    plan: Plan
    values: FloatArray
    by_timeframe: FloatArray

    @classmethod
    def of(cls, plan: Plan, block: Block) -> _Buffer:
        cells, fields = (block.length, block.width), len(plan.fields)
        values = np.empty((TIMEFRAME_COUNT * fields + len(plan.singles), *cells))
        return cls(plan, values, values[: TIMEFRAME_COUNT * fields].reshape(TIMEFRAME_COUNT, fields, *cells))

    def field(self, name: str) -> FloatArray:
        view: FloatArray = self.by_timeframe[:, self.plan.field_row[name]]
        return view

    def single(self, name: str) -> FloatArray:
        view: FloatArray = self.values[TIMEFRAME_COUNT * len(self.plan.fields) + self.plan.single_row[name]]
        return view

    def put(self, names: tuple[str, ...], found: Iterable[FloatArray]) -> None:
        """Those of these single columns that were asked for."""
        for name, values in zip(names, found, strict=True):
            if name in self.plan.single_row:
                self.single(name)[:] = values


class Evaluation:
    """Evaluates blocks without changing what the state knows; only its tables, which are a cache, are
    filled."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._windows = Windows(plan.sum_planes, plan.extremes, plan.previous)
        self._indicators = indicators.IndicatorFields(set(plan.fields))
        self._since = plan.wants(*_VWAP_SINCE)
        self._cloud = plan.wants(*_CLOUD)
        self._bubbles = plan.wants(*_BUBBLES)
        self._fives = self._bubbles or self._indicators.bands or plan.wants(*_SURGE)

    def surroundings(self, state: State, block: Block, heads: Heads) -> Surroundings:
        """heads: the quarter's running totals at each minute of the block."""
        return surroundings_of(state, block, heads, self._plan.sum_planes, self._plan.extremes)

    def evaluate(
        self,
        state: State,
        block: Block,
        around: Surroundings,
        bars: BarsSoFar | None,
        before: Before | None,
        closed: bool,
    ) -> FloatArray:
        """(columns, T * W): the values of every minute of the block, minute by minute.

        bars, before: the bars so far, and the recursive state before each, where the plan needs them.
        closed: whether the block's minutes are; they must be in the rings then.
        """
        plan, buffer = self._plan, _Buffer.of(self._plan, block)
        self._prepare(state, block)
        price_fields(state, block, plan, buffer.field)
        if plan.windows:
            window_fields(state, block, around, self._windows, plan, buffer.field, buffer.single)
        if self._since:
            buffer.put(_VWAP_SINCE, since.vwap_since(state, block, around.heads))
        if bars is not None:
            self._formations(state, block, around, bars, before, closed, buffer)
        if bars is not None and before is not None:
            self._indicators.fill(before, bars, block.close, buffer.field)
        flat = buffer.values.reshape(len(buffer.values), -1)
        return flat if plan.positions is None else flat[plan.positions]

    def _formations(
        self,
        state: State,
        block: Block,
        around: Surroundings,
        bars: BarsSoFar,
        before: Before | None,
        closed: bool,
        buffer: _Buffer,
    ) -> None:
        if self._cloud:
            buffer.put(_CLOUD, formations.ichimoku(state, block, bars))
        if not self._fives:
            return
        table, surge = formations.fives_of(state, block, closed)
        buffer.put(_SURGE, surge)
        if self._bubbles:
            buffer.put(_BUBBLES, formations.bubbles(state, block, around.heads, table, bars))
        if self._indicators.bands and before is not None:
            bands = indicators.bands_before(state, block, table[formations.BAND_5M])
            self._indicators.fill_bands(bands, before, block.close, buffer.field)

    def _prepare(self, state: State, block: Block) -> None:
        """Builds the tables of the block's quarter for those of its symbols that have none yet."""
        quarter = block.quarter
        stale = state.table_quarter[block.columns] != quarter
        if not stale.any():
            return
        columns = block.columns if stale.all() else np.arange(state.used)[block.columns][stale]
        self._windows.build(state, quarter, columns)
        if self._since:
            state.table_since[..., columns] = since.build_totals(state, quarter, columns)
        if self._indicators.bands:
            state.table_bands[..., columns] = indicators.band_table(state, quarter, columns)
        if self._cloud:
            state.table_cloud[:, columns] = formations.cloud_table(state, quarter, columns)
        if self._bubbles:
            state.table_bubble[:, columns] = formations.bubble_table_15m(state, quarter, columns)
        state.table_quarter[columns] = quarter
