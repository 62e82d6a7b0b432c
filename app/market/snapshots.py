"""Snapshots of the state as bytes: of all of it, and of just what minutes cannot bring back."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.errors import BadFrame
from app.market.layout import NO_MINUTE
from app.market.packing import decode, encode
from app.market.state import Retention, State
from app.market.symbols import SymbolColumns

_VERSION: Final = 1
_TABLES: Final = frozenset({
    "table_sums", "table_extremes", "table_previous", "table_since", "table_bands", "table_cloud",
    "table_bubble",
    "table_quarter", "table_bars", "bars_quarter", "table_five", "five_bar",
})  # fmt: skip
"""Computed again when needed."""
_INDICATORS: Final = (
    "recursive", "stand", "checkpoint", "checkpoint_minute", "long_closes", "seed", "seed_minute", "origin",
    "week", "week_quarter", "week_sums",
)  # fmt: skip
_ABSORBED: Final = 2


def pack_state(state: State, symbols: SymbolColumns) -> bytes:
    """Everything but the tables."""
    columns = np.array([column for _, column in symbols.items()], dtype=np.intp)
    arrays = {name: array[..., columns] for name, array in state.arrays() if name not in _TABLES}
    header = {"symbols": symbols.names, "late_horizon_minutes": state.retention.late_horizon_minutes}
    return encode("matrix", _VERSION, header, arrays)


def unpack_state(data: bytes) -> tuple[State, SymbolColumns]:
    """Raises BadFrame for bytes that `pack_state` of this version did not write."""
    header, arrays = decode(data, "matrix", _VERSION)
    state = State(Retention(header["late_horizon_minutes"]))
    symbols = SymbolColumns(state)
    state.grow(len(header["symbols"]))
    for symbol in header["symbols"]:
        symbols.add(symbol)
    expected = {name: array for name, array in state.arrays() if name not in _TABLES}
    if {name: array.shape for name, array in expected.items()} != {n: a.shape for n, a in arrays.items()}:
        raise BadFrame("frame_schema", "a packed matrix with other arrays than this version's")
    for name, array in expected.items():
        array[:] = arrays[name]
    return state, symbols


def pack_indicators(state: State, symbols: SymbolColumns) -> bytes:
    """The recursive state with its checkpoints, the week so far, and which minutes they have absorbed."""
    columns = np.array([column for _, column in symbols.items()], dtype=np.intp)
    arrays = {name: getattr(state, name)[..., columns] for name in _INDICATORS}
    arrays["absorbed"] = np.packbits(_absorbed(state, columns), axis=0)
    header = {"symbols": symbols.names, "quote_rows": state.quote_rows}
    return encode("indicators", _VERSION, header, arrays)


def _absorbed(state: State, columns: NDArray[np.intp]) -> NDArray[np.bool_]:
    """(quote rows, S): whether each row's minute is at or before the symbol's stand and was known."""
    stand = state.stand[columns]
    rows = np.arange(state.quote_rows)[:, np.newaxis]
    # The minute of each row, counted back from the newest.
    newest = state.newest[columns]
    minutes = newest - (newest - rows) % state.quote_rows
    absorbed: NDArray[np.bool_] = (state.known[:, columns] > 0) & (minutes <= stand) & (newest != NO_MINUTE)
    return absorbed


def unpack_indicators(data: bytes, state: State, symbols: SymbolColumns) -> None:
    """Puts the indicators of every symbol of the snapshot in; minutes already restored are kept.

    Raises BadFrame for bytes that `pack_indicators` of this version and horizon did not write.
    """
    header, arrays = decode(data, "indicators", _VERSION)
    if header["quote_rows"] != state.quote_rows:
        raise BadFrame("frame_schema", "packed indicators of a matrix with another late horizon")
    columns = np.array([symbols.add(symbol) for symbol in header["symbols"]], dtype=np.intp)
    expected = {name: (*getattr(state, name).shape[:-1], len(columns)) for name in _INDICATORS}
    if any(name not in arrays or arrays[name].shape != shape for name, shape in expected.items()):
        raise BadFrame("frame_schema", "packed indicators with other arrays than this version's")
    for name in _INDICATORS:
        getattr(state, name)[..., columns] = arrays[name]
    absorbed = np.unpackbits(arrays["absorbed"], axis=0, count=state.quote_rows).astype(np.bool_)
    known = state.known[:, columns]
    state.known[:, columns] = np.where(absorbed & (known == 0), _ABSORBED, known)
    state.absorbed_until[columns] = state.stand[columns]
    state.table_quarter[columns] = NO_MINUTE
    # Minutes that are, or will be, at hand may have been corrected since: go through them again.
    state.dirty_from[columns] = 0
