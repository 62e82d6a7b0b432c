"""The values of the channels `metrics` and `candles`, both read off the metrics that the sidecar follows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import orjson

from app.market.fields import COLUMN_POSITION
from app.market.metrics import MetricsBatch
from app.sidecar.live.latest_channel import Fields, Key
from app.sidecar.rest.metrics_json import EncodedMetrics, MetricsLayout, RowTexts
from app.sidecar.state.latest import LatestMetrics
from app.times import rfc3339

_LAYOUTS_KEPT: Final = 32
"""Choices of timeframes and fields whose JSON is cached: up to 8 kB per symbol each. The least recently used one is
dropped first."""
_layout = lru_cache(maxsize=256)(MetricsLayout)
_CANDLE_COLUMNS: Final = {
    "open": "open_1m",
    "high": "high_1m",
    "low": "low_1m",
    "close": "close_1m",
    "volume": "base_volume_1m",
    "quote_volume": "quote_volume_1m",
    "trades": "trades_1m",
}
"""JSON name -> column: the window of one minute is its candle."""


class MetricsValues:
    """The latest row of a symbol, in the layout of GET /api/metrics."""

    channel = "metrics"

    def __init__(self, latest: LatestMetrics) -> None:
        self._latest = latest
        self._texts = RowTexts(latest)
        self._layouts: OrderedDict[Fields, EncodedMetrics] = OrderedDict()

    def changed(self, batch: MetricsBatch) -> Iterable[tuple[Key, None]]:
        return (((batch.symbols[index], 0), None) for index in np.unique(batch.symbol_index).tolist())

    def known(self, symbols: frozenset[str] | None) -> list[Key]:
        return [(symbol, 0) for symbol in _known(self._latest, symbols)]

    def encode(self, key: Key, fields: Fields) -> bytes | None:
        layout = self._layouts.get(fields)
        if layout is None:
            layout = self._layouts[fields] = EncodedMetrics(self._latest, _layout(*fields), self._texts)
            if len(self._layouts) > _LAYOUTS_KEPT:
                self._layouts.popitem(last=False)
        self._layouts.move_to_end(fields)
        return layout.of(key[0])


class CandleValues:
    """Minutes of a symbol: closed ones do not replace one another, a forming one replaces itself."""

    channel = "candles"

    def __init__(self, latest: LatestMetrics) -> None:
        self._latest = latest

    def changed(self, batch: MetricsBatch) -> Iterable[tuple[Key, bytes]]:
        if not set(_CANDLE_COLUMNS.values()) <= set(batch.columns):
            return
        position = {name: i for i, name in enumerate(batch.columns)}
        columns = [position[name] for name in _CANDLE_COLUMNS.values()]
        rows = zip(
            batch.symbol_index.tolist(),
            batch.open_time_ms.tolist(),
            batch.closed.tolist(),
            batch.values[:, columns].tolist(),
            strict=True,
        )
        for index, open_time_ms, closed, values in rows:
            symbol = batch.symbols[index]
            yield (symbol, open_time_ms), _candle(symbol, batch.exchange, open_time_ms, closed, values)

    def known(self, symbols: frozenset[str] | None) -> list[Key]:
        return [(symbol, 0) for symbol in _known(self._latest, symbols)]

    def encode(self, key: Key, _: Fields) -> bytes | None:
        row = self._latest.row(key[0])
        if row is None:
            return None
        values = [row.values[COLUMN_POSITION[name]] for name in _CANDLE_COLUMNS.values()]
        return _candle(row.symbol, row.exchange, row.open_time_ms, row.closed, values)


def _candle(symbol: str, exchange: str, open_time_ms: int, closed: bool, values: Sequence[float]) -> bytes:
    """Return the JSON of a candle. volume: base asset. Values are null where the minute is not known (a frame of a
    recomputed window)."""
    candle: dict[str, object] = {
        "symbol": symbol,
        "exchange": exchange,
        "open_time": rfc3339(open_time_ms),
        "closed": closed,
    }
    candle.update(zip(_CANDLE_COLUMNS, values, strict=True))
    return orjson.dumps(candle)


def _known(latest: LatestMetrics, symbols: frozenset[str] | None) -> list[str]:
    return latest.symbols() if symbols is None else sorted(symbol for symbol in symbols if symbol in latest)
