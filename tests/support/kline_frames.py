"""Kline frames as Binance sends them."""

from __future__ import annotations

import orjson

MINUTE_MS = 60_000


def frame(
    symbol: str, open_time_ms: int, *, closed: bool, event_ts_ms: int | None = None, close: str = "10"
) -> bytes:
    kline = {
        "t": open_time_ms, "T": open_time_ms + MINUTE_MS - 1, "s": symbol, "i": "1m", "o": "10", "c": close,
        "h": "12", "l": "9", "v": "1", "n": 3, "x": closed, "q": "10", "V": "0.5", "Q": "5", "B": "0",
    }  # fmt: skip
    event_ms = event_ts_ms or open_time_ms + (MINUTE_MS if closed else 30_000)
    data = {"e": "kline", "E": event_ms, "s": symbol, "k": kline}
    return orjson.dumps({"stream": f"{symbol.lower()}@kline_1m", "data": data})
