"""Bringing the recursive indicators up to the minutes: after late or corrected candles, and after a restart.

The recursive state cannot forget a minute, so it is put back to an earlier copy and taken forward again
through the minutes in the rings. Copies (checkpoints) are kept of every fourth hour (UTC). A change older
than the oldest copy within the ring of minutes leaves the indicators as they are: a day of short bars has
outweighed it, and the long bars have closed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.market.blocks import Block
from app.market.indicators import sow
from app.market.layout import NO_MINUTE, QUARTER
from app.market.state import CHECKPOINT_MINUTES, CHECKPOINTS, State

_QUARTERS_PER_CHECKPOINT = CHECKPOINT_MINUTES // QUARTER


def begin_block(state: State, block: Block) -> None:
    """At the start of a quarter: keeps a checkpoint every fourth hour, and puts in warmed-up states."""
    if block.offset:
        return
    at_start = state.stand[block.columns] == block.first - 1
    if not at_start.any():
        return
    columns = block.columns if at_start.all() else np.arange(state.used)[block.columns][at_start]
    sow(state, columns, block.first)
    if block.quarter % _QUARTERS_PER_CHECKPOINT == 0:
        slot = (block.quarter // _QUARTERS_PER_CHECKPOINT) % CHECKPOINTS
        state.checkpoint[slot][..., columns] = state.recursive[..., columns]
        state.checkpoint_minute[slot, columns] = block.first - 1


def needing_replay(state: State) -> NDArray[np.intp]:
    """Symbols whose indicators do not stand at the newest minute, or were overtaken by a change."""
    newest, stand = state.newest[: state.used], state.stand[: state.used]
    behind = (state.dirty_from[: state.used] != NO_MINUTE) | (stand < newest)
    return np.flatnonzero(behind & (newest != NO_MINUTE))


def mark_changed(state: State, columns: NDArray[np.intp], minutes: NDArray[np.int64]) -> None:
    """Remembers that these minutes changed after the indicators may have taken them in."""
    never = state.dirty_from[columns] == NO_MINUTE
    state.dirty_from[columns[never]] = np.iinfo(np.int64).max
    np.minimum.at(state.dirty_from, columns, minutes)
    np.minimum.at(state.origin, columns, minutes)


def rewind(state: State, column: int) -> None:
    """Puts one symbol's recursive state back to the latest point from which all minutes since are at hand."""
    newest, stand = int(state.newest[column]), int(state.stand[column])
    edge = (newest // QUARTER - state.retention.minute_quarters + 1) * QUARTER - 1
    minutes = np.arange(edge + 1, newest + 1)
    absent = minutes[state.known[minutes % state.quote_rows, column] == 2]
    after = int(absent[-1]) if len(absent) else edge
    changed = int(state.dirty_from[column])
    limit = newest if changed == NO_MINUTE else min(changed - 1, newest)

    slot_of = {int(m): slot for slot, m in enumerate(state.checkpoint_minute[:, column].tolist())}
    points = {m for m in slot_of if after <= m <= newest}
    beginning = int(state.origin[column]) // QUARTER * QUARTER - 1
    if beginning >= after:
        points.add(beginning)
    if stand >= after:
        points.add(stand)
    earlier = [point for point in points if point <= limit]
    start = max(earlier) if earlier else min(points, default=after)
    state.dirty_from[column] = NO_MINUTE
    if start == stand:
        return
    slot = slot_of.get(start)
    state.recursive[..., column] = 0.0 if slot is None else state.checkpoint[slot][..., column]
    state.stand[column] = start
