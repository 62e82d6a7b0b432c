"""Test candle messages in the form that producers send, and how they are read."""

from __future__ import annotations

from typing import Any

import orjson

from app.candles.batch import MINUTE_MS, CandleBatch
from app.wire.nats.candles import Parsed, parse
from app.wire.nats.rejected import Rejected

MINUTE_START_MS = 1_700_000_040_000
"""2023-11-14 22:14 UTC: the minute of the candles by default."""
NOW_MS = MINUTE_START_MS + MINUTE_MS
MAX_BYTES = 65_536


def candle(symbol: str = "BTCUSDT", **fields: Any) -> dict[str, Any]:
    """Return a valid closed candle. `fields` override its fields; a field given as `...` is left out."""
    message = {
        "symbol": symbol,
        "open_time": MINUTE_START_MS,
        "close_time": MINUTE_START_MS + MINUTE_MS - 1,
        "open": 10.0,
        "high": 12.0,
        "low": 9.0,
        "close": 11.0,
        "volume": 3.0,
        "quote_volume": 31.5,
        "number_of_trades": 7,
    }
    return {name: value for name, value in (message | fields).items() if value is not ...}


def message(symbol: str = "BTCUSDT", **fields: Any) -> bytes:
    return orjson.dumps(candle(symbol, **fields))


def parsed(*messages: bytes) -> Parsed:
    return parse(messages, ingest_ts_ms=NOW_MS, max_bytes=MAX_BYTES, exchange="binance")


def accepted(*messages: bytes) -> CandleBatch:
    found = parsed(*messages)
    assert found.rejected == []
    assert found.batch is not None
    return found.batch


def refused(data: bytes) -> Rejected:
    """The refusal of `data`, which stands between two good candles that must not notice."""
    found = parsed(message("AAAUSDT"), data, message("ZZZUSDT", close=10.5))
    assert [one.index for one in found.rejected] == [1]
    assert found.batch is not None
    assert [found.batch.symbol_of(row) for row in range(len(found.batch))] == ["AAAUSDT", "ZZZUSDT"]
    assert found.batch.close.tolist() == [11.0, 10.5]
    assert found.rejected[0].message
    return found.rejected[0]
