"""The CPU time of work, for comparison with that of other work in the same run."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import orjson

from app.process.runtime_tuning import avoid_pauses
from app.wire.nats.candles import parse

NOW_MS = 1_700_000_000_000
MAX_BYTES = 2**20


@contextmanager
def collected_as_in_a_role() -> Iterator[None]:
    """Collect garbage as every role does. As Python does by itself, each of many collections would visit all that the
    tests have loaded, and the cost of a message would be that of what happens to be in memory."""
    thresholds, switch_interval_s = gc.get_threshold(), sys.getswitchinterval()
    avoid_pauses()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(switch_interval_s)


def cpu_s(work: Callable[[], object], rounds: int = 3) -> float:
    """Return the lowest CPU time of some rounds: other work of the machine only adds to it."""
    taken = []
    for _ in range(rounds):
        began_s = time.thread_time()
        work()
        taken.append(time.thread_time() - began_s)
    return min(taken)


def candle(symbol: str = "BTCUSDT", **fields: object) -> bytes:
    """Return a candle as JSON, valid unless `fields` change that."""
    values = {
        "open_time": NOW_MS // 60_000 * 60_000 - 120_000, "open": 1.5, "high": 2.5, "low": 1.0, "close": 2.0,
        "volume": 10.0, "quote_volume": 15.0, "number_of_trades": 3,
    }  # fmt: skip
    return orjson.dumps({"symbol": symbol} | values | fields)


def array(element: Callable[[int], bytes], size_bytes: int = MAX_BYTES) -> bytes:
    """Return a JSON array of as many elements as fit."""
    elements: list[bytes] = []
    used_bytes = 2
    while (used_bytes := used_bytes + len(more := element(len(elements))) + 1) <= size_bytes:
        elements.append(more)
    return b"[%b]" % b",".join(elements)


def good_message_s() -> float:
    """Return the CPU time to parse the largest message whose candles are all valid."""
    data = array(lambda at: candle(f"S{at % 500}USDT"))
    return cpu_s(lambda: parse([data], ingest_ts_ms=NOW_MS, max_bytes=MAX_BYTES, exchange="binance"))
