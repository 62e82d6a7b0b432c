"""The CPU time to encode and to decode a frame: `python -m benchmarks.frames`.

Why it is hot: between the exchange and its alert an update is encoded three times, and decoded six times, by every
stage, the sinks and the sidecar. Compared in one run with Arrow IPC streams, the format of version 1
(`benchmarks/arrow_frames.py` writes it, `app/wire/arrow_frames.py` reads it). CPU time is the best of several repeats.
Decoding includes the checks of every reader: symbols, times, indices.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch
from app.market.fields import METRIC_COLUMNS
from app.market.metrics import MetricsBatch
from app.wire import frames
from app.wire.frames import FrameInfo
from benchmarks import arrow_frames
from tests.support.candle_batches import Candle, batch_of

FRAME_ROWS = (1, 50, 500)
SOME_COLUMNS = 20
"""About as many as the shipped rules read."""
_MINUTE = 26_976_960
"""Since 1970: 2021-04-17."""
_INFO = FrameInfo({"bridge": 1_618_617_600_000, "collector": 1_618_617_600_010}, "ab" * 16)


def metrics_of(candles: CandleBatch) -> MetricsBatch:
    """Return random values for the rows of these candles."""
    values = np.random.default_rng(1).normal(size=(len(candles), len(METRIC_COLUMNS)))
    return MetricsBatch(
        symbols=candles.symbols,
        symbol_index=candles.symbol_index,
        open_time_ms=candles.open_time_ms,
        closed=candles.closed,
        event_ts_ms=candles.event_ts_ms + MINUTE_MS,
        ingest_ts_ms=candles.ingest_ts_ms + MINUTE_MS,
        values=values,
        columns=METRIC_COLUMNS,
    )


def read_columns(frame: bytes, columns: slice) -> float:
    """Open the frame and read these columns, each as a whole, like a rule."""
    batch, _ = frames.decode_metrics(frame)
    return sum(float(column[0]) for column in np.ascontiguousarray(batch.values.T[columns]))


def cpu_us(step: Callable[[], object], seconds: float) -> float:
    """Return the CPU time of one step in microseconds, the best of seven repeats."""
    step()
    once_s = max(1e-6, min(_cpu_s(step, 3) for _ in range(3)))
    steps = max(3, int(seconds / once_s / 7))
    return 1e6 * min(_cpu_s(step, steps) for _ in range(7))


def _cpu_s(step: Callable[[], object], steps: int) -> float:
    began = time.process_time()
    for _ in range(steps):
        step()
    return (time.process_time() - began) / steps


def cases(candles: CandleBatch) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Return the cases: name -> (step with Arrow, step with blocks)."""
    metrics = metrics_of(candles)
    old_candles, new_candles = (
        arrow_frames.encode_candles(candles, _INFO),
        frames.encode_candles(candles, _INFO),
    )
    old, new = arrow_frames.encode_metrics(metrics, _INFO), frames.encode_metrics(metrics, _INFO)
    some, every = slice(0, SOME_COLUMNS), slice(None)
    return {
        "candles: write": (
            partial(arrow_frames.encode_candles, candles, _INFO),
            partial(frames.encode_candles, candles, _INFO),
        ),
        "candles: open": (
            partial(frames.decode_candles, old_candles),
            partial(frames.decode_candles, new_candles),
        ),
        "metrics: write": (
            partial(arrow_frames.encode_metrics, metrics, _INFO),
            partial(frames.encode_metrics, metrics, _INFO),
        ),
        "metrics: open": (partial(frames.decode_metrics, old), partial(frames.decode_metrics, new)),
        f"metrics: open, read {SOME_COLUMNS} columns": (
            partial(read_columns, old, some),
            partial(read_columns, new, some),
        ),
        f"metrics: open, read all {len(METRIC_COLUMNS)}": (
            partial(read_columns, old, every),
            partial(read_columns, new, every),
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU time for each figure")
    arguments = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}\n")
    print("| rows | work | Arrow µs | blocks µs | ratio |\n|--:|---|--:|--:|--:|")
    sizes = []
    for rows in FRAME_ROWS:
        candles = batch_of([Candle(f"S{k}USDT", _MINUTE, 1.0 + k) for k in range(rows)])
        for name, (old, new) in cases(candles).items():
            old_us, new_us = cpu_us(old, arguments.seconds), cpu_us(new, arguments.seconds)
            print(f"| {rows} | {name} | {old_us:.0f} | {new_us:.0f} | 1/{old_us / new_us:.1f} |", flush=True)
        metrics = metrics_of(candles)
        for kind, old_bytes, new_bytes in (
            ("candles", arrow_frames.encode_candles(candles, _INFO), frames.encode_candles(candles, _INFO)),
            ("metrics", arrow_frames.encode_metrics(metrics, _INFO), frames.encode_metrics(metrics, _INFO)),
        ):
            sizes.append(f"| {rows} | {kind} | {len(old_bytes):,} | {len(new_bytes):,} |")
    print("\n| rows | frame of | Arrow bytes | blocks bytes |\n|--:|---|--:|--:|")
    print("\n".join(sizes))


if __name__ == "__main__":
    main()
