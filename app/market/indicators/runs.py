"""Runs of bars: where the recursive state of the indicators begins anew, is kept, and is taken over from warming up."""

from __future__ import annotations

from app.candles.batch import FloatArray
from app.compiled import inlined
from app.market.indicators.averages import BARS
from app.market.rings.layout import CHECKPOINT_MINUTES, CHECKPOINTS, LENGTHS, QUARTER, TIMEFRAME_COUNT
from app.market.rings.records import Symbol


@inlined
def copy_state(into: FloatArray, state: FloatArray) -> None:
    """Copy the state of one timeframe."""
    for k in range(len(state)):
        into[k] = state[k]


@inlined
def begin_minute(symbol: Symbol, minute: int) -> None:
    """At the start of a quarter, put in warmed-up states, and every fourth hour keep a checkpoint."""
    if minute % QUARTER or symbol.stand != minute - 1:
        return
    sow(symbol, minute)
    if minute % CHECKPOINT_MINUTES == 0:
        slot = minute // CHECKPOINT_MINUTES % CHECKPOINTS
        for timeframe in range(TIMEFRAME_COUNT):
            copy_state(symbol.checkpoint[slot, timeframe], symbol.recursive[timeframe])
        symbol.checkpoint_minute[slot] = minute - 1


@inlined
def lapse(symbol: Symbol, minute: int) -> None:
    """Move on to `minute` across missing minutes; end the runs of bars in which a bar ended in between."""
    for timeframe in range(TIMEFRAME_COUNT):
        length = LENGTHS[timeframe]
        if (symbol.stand + 1) // length < minute // length:
            symbol.recursive[timeframe][:] = 0.0
    symbol.stand = max(symbol.stand, minute - 1)
    sow(symbol, minute)


@inlined
def sow(symbol: Symbol, minute: int) -> None:
    """Put in warmed-up states that end right before the bar of `minute`, where they have seen more bars."""
    for timeframe in range(TIMEFRAME_COUNT):
        seeded, length = symbol.seed_minute[timeframe], LENGTHS[timeframe]
        fits = seeded >= 0 and (seeded + 1) // length == minute // length
        if fits and symbol.seed[timeframe, BARS] > symbol.recursive[timeframe, BARS]:
            copy_state(symbol.recursive[timeframe], symbol.seed[timeframe])
