"""Checks of frames with some bytes changed."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from app.candles.batch import CandleBatch
from app.errors import BadFrame
from app.market.metrics import MetricsBatch
from app.wire.frames import FrameInfo

Decode = Callable[[bytes], tuple[CandleBatch | MetricsBatch, FrameInfo]]


def assert_refused_or_whole(frame: bytes, decode: Decode, data: st.DataObject) -> None:
    """Change up to four bytes of the frame: it must be rejected with a reason, or every row must have its symbol."""
    damaged = bytearray(frame)
    for at in data.draw(st.lists(st.integers(0, len(frame) - 1), min_size=1, max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        batch, _ = decode(bytes(damaged))
    except BadFrame as error:
        assert error.reason.startswith("frame_")
        assert str(error)
    else:
        assert all(batch.symbol_of(row) in batch.symbols for row in range(len(batch)))
