"""vwap since 00:00 UTC and since Monday 00:00 UTC: sums of the period's quarters, the current one included.

A week is longer than the rings: quarters that leave the ring of minutes are added to `week_sums` first, in
order of time, so that the total is the same to the bit whenever that happened.
"""

from __future__ import annotations

import numpy as np

from app.candles.batch import FloatArray
from app.market.blocks import Block
from app.market.layout import COUNT, QUARTER, QUOTE, VOLUME, day_start, week_start
from app.market.sequences import total
from app.market.state import Columns, State, at, pick

DAY_PERIOD, WEEK_PERIOD = 0, 1


def retire_quarters(state: State, next_quarter: int, columns: Columns) -> None:
    """Adds to the week the quarters that can no longer change once `next_quarter` begins."""
    oldest = next_quarter - (state.retention.minute_quarters - 1)
    chosen = np.arange(state.used)[columns]
    for quarter in range(int(state.week_quarter[chosen].min()), oldest):
        due = chosen[state.week_quarter[chosen] == quarter]
        if len(due):
            _retire(state, quarter, due)


def _retire(state: State, quarter: int, columns: Columns) -> None:
    week = week_start(quarter * QUARTER)
    another = state.week[columns] != week
    sums = state.week_sums[:, columns]
    sums[:, another] = 0.0
    state.week_sums[:, columns] = (
        sums + state.quarter_sums[: VOLUME + 1, quarter % state.quarter_rows, columns]
    )
    state.week[columns] = week
    state.week_quarter[columns] = quarter + 1


def build_totals(state: State, quarter: int, columns: Columns) -> FloatArray:
    """(2 periods, 3 sums, W): quote volume, count and volume from the period's start to the quarter's."""
    totals = np.zeros((2, 3, state.newest[columns].shape[0]))
    planes = state.quarter_sums[: VOLUME + 1]
    first = day_start(quarter * QUARTER) // QUARTER
    if first < quarter:
        rows = np.arange(first, quarter) % state.quarter_rows
        totals[DAY_PERIOD] = total(pick(planes, rows, columns), axis=1)

    week = week_start(quarter * QUARTER)
    carried = np.where(state.week[columns] == week, state.week_sums[:, columns], 0.0)
    retired = state.week_quarter[columns]
    quarters = np.arange(max(week // QUARTER, int(retired.min())), quarter)
    parts = pick(planes, quarters % state.quarter_rows, columns)
    parts[:, quarters[:, np.newaxis] < retired] = 0.0
    terms = np.concatenate((carried[:, np.newaxis], parts), axis=1)
    totals[WEEK_PERIOD] = total(terms, axis=1)
    return totals


def vwap_since(state: State, block: Block, heads: FloatArray) -> FloatArray:
    """(2, T, W), of day and week: null if a minute of the period so far is missing or nothing was traded in
    it."""
    minutes = np.arange(block.first, block.last + 1)
    begin = np.array([[day_start(block.first)], [week_start(block.first)]])
    sums = at(state.table_since, block.columns)[:, :, np.newaxis] + heads[: VOLUME + 1]
    vwap: FloatArray = sums[:, QUOTE] / sums[:, VOLUME]
    expected = (minutes - begin + 1)[:, :, np.newaxis]
    vwap[(sums[:, COUNT] != expected) | (sums[:, VOLUME] == 0.0)] = np.nan
    return vwap
