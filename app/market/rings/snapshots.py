"""Snapshots, as bytes, of the state that minutes cannot restore."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.errors import BadFrame
from app.market.rings.layout import NO_MINUTE
from app.market.rings.packing import decode, encode
from app.market.rings.state import State
from app.market.rings.symbols import SymbolColumns

_VERSION: Final = 1
_INDICATORS: Final = (
    "recursive", "stand", "checkpoint", "checkpoint_minute", "long_closes", "seed", "seed_minute", "origin",
    "week", "week_quarter", "week_sums", "own_closes", "own_bars", "own_ranges",
    "own_quarters",
)  # fmt: skip
"""Fields of a symbol; in the bytes the symbol is the last axis."""
_LATER: Final = frozenset({"own_closes", "own_bars", "own_ranges", "own_quarters"})
"""Fields that may be absent from a snapshot of an earlier version."""
_ABSORBED: Final = 2


def pack_indicators(state: State, symbols: SymbolColumns) -> bytes:
    """Return the recursive state with its checkpoints, the week so far, and which minutes they have absorbed."""
    columns = np.array([column for _, column in symbols.items()], dtype=np.intp)
    arrays = {name: np.moveaxis(state.rings.symbols[name][columns], 0, -1) for name in _INDICATORS}
    arrays["absorbed"] = np.packbits(_absorbed(state, columns).T, axis=0)
    header = {"symbols": symbols.names, "quote_rows": state.rings.quote.shape[1]}
    return encode("indicators", _VERSION, header, arrays)


def _absorbed(state: State, columns: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return (S, quote rows): whether each row's minute is at or before the symbol's stand and was known."""
    rings = state.rings
    stand, newest = (rings.symbols[name][columns][:, np.newaxis] for name in ("stand", "newest"))
    # the minute of each row, counted back from the newest
    minutes = newest - (newest - np.arange(rings.known.shape[1])) % rings.known.shape[1]
    absorbed: NDArray[np.bool_] = (rings.known[columns] > 0) & (minutes <= stand) & (newest != NO_MINUTE)
    return absorbed


def unpack_indicators(data: bytes, state: State, symbols: SymbolColumns) -> None:
    """Put the indicators of every symbol of the snapshot in; minutes already restored are kept.

    Raises BadFrame for bytes that `pack_indicators` of this version and horizon did not write.
    """
    header, arrays = decode(data, "indicators", _VERSION)
    rows = state.rings.quote.shape[1]
    if header["quote_rows"] != rows:
        raise BadFrame("frame_schema", "packed indicators of a matrix with another late horizon")
    columns = np.array([symbols.add(symbol) for symbol in header["symbols"]], dtype=np.intp)
    held = state.rings.symbols
    given: dict[str, NDArray[Any]] = {}
    for name in _INDICATORS:
        if name not in arrays and name in _LATER:
            continue
        if name not in arrays or arrays[name].shape != (*held[name].shape[1:], len(columns)):
            raise BadFrame("frame_schema", "packed indicators with other arrays than this version's")
        given[name] = np.moveaxis(arrays[name], -1, 0)
    for name, array in given.items():
        held[name][columns] = array
    absorbed = np.unpackbits(arrays["absorbed"], axis=0, count=rows).astype(np.bool_).T
    known = state.rings.known[columns]
    state.rings.known[columns] = np.where(absorbed & (known == 0), _ABSORBED, known)
    held["absorbed_until"][columns] = held["stand"][columns]
    held["table_quarter"][columns] = NO_MINUTE
    # minutes that are, or will be, at hand may have been corrected since: go through them again
    held["dirty_from"][columns] = 0
