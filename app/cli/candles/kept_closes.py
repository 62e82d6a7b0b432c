"""Days of closes in a temporary file, for a backtest too long to keep them in memory."""

from __future__ import annotations

import os
import tempfile
from typing import Final

import numpy as np

from app.backtest.prices import DAY_MINUTES
from app.candles.batch import FloatArray

_ROW_BYTES: Final = DAY_MINUTES * 8


class KeptCloses:
    """A `KeptDays` on disk, 8 bytes for each symbol and minute; the file has no name and ends with the process."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="screener-closes-")  # noqa: SIM115 - closed by `close`
        self._places: dict[int, tuple[int, int]] = {}
        """Day -> offset in bytes, symbols."""
        self._end = 0

    def put(self, day: int, closes: FloatArray) -> None:
        offset, symbols = self._places.get(day, (self._end, 0))
        if symbols != len(closes):
            offset = self._end
            self._end += closes.nbytes
        self._places[day] = offset, len(closes)
        self._file.seek(offset)
        self._file.write(closes.tobytes())
        self._file.flush()

    def get(self, day: int) -> FloatArray:
        offset, symbols = self._places[day]
        return self._read(offset, symbols * _ROW_BYTES).reshape(symbols, DAY_MINUTES)

    def row(self, day: int, symbol: int) -> FloatArray:
        offset, symbols = self._places[day]
        if symbol >= symbols:
            return np.full(DAY_MINUTES, np.nan)
        return self._read(offset + symbol * _ROW_BYTES, _ROW_BYTES)

    def _read(self, offset: int, size: int) -> FloatArray:
        return np.frombuffer(os.pread(self._file.fileno(), size, offset), np.float64)

    def close(self) -> None:
        self._file.close()
