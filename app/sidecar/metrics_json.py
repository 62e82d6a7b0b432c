"""The JSON of a symbol's latest metrics: flat columns laid out by timeframe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import orjson

from app.market.columns import COLUMN_POSITION, FIELDS, PIVOT_FIELDS
from app.market.timeframes import TIMEFRAMES
from app.sidecar.latest import LatestMetrics, LatestRow
from app.sidecar.times import rfc3339

_RENAMED: Final = {"base_volume": "volume"}
PLAIN_FIELDS: Final = {_RENAMED.get(field, field): field for field in FIELDS if field not in PIVOT_FIELDS}
"""JSON name -> column field, of what every timeframe has. `volume` is in the base asset."""

NESTED_FIELDS: Final[dict[str, dict[str, dict[str, str]]]] = {
    # JSON name -> timeframe -> JSON name within -> column
    "fibonacci": {
        timeframe: {field.removeprefix("fib_"): f"{field}_{timeframe}" for field in PIVOT_FIELDS}
        for timeframe in TIMEFRAMES
    },
    "ichimoku": {
        "15m": {part: f"ichimoku_{part}_15m" for part in ("conversion", "base", "span_a", "span_b")}
    },
    "volume_bubble": {
        timeframe: {part: f"bubble_{part}_{timeframe}" for part in ("z", "size", "side")}
        for timeframe in ("5m", "15m")
    },
    "volume_surge": {"5m": {part: f"surge_{part}_5m" for part in ("ratio", "side")}},
}
TOP_FIELDS: Final = ("vwap_day", "vwap_week", "high_10m", "low_10m")
"""Columns that stand beside the timeframes."""
FIELD_NAMES: Final = (*PLAIN_FIELDS, *NESTED_FIELDS)

_Picker = Callable[[Sequence[float]], dict[str, Any]]


def _picker(columns: dict[str, str]) -> _Picker:
    """From a row's values to {JSON name: value}."""
    names = tuple(columns)
    positions = [COLUMN_POSITION[column] for column in columns.values()]
    if len(positions) == 1:
        (name,), (position,) = names, positions
        return lambda values: {name: values[position]}
    take = itemgetter(*positions)
    return lambda values: dict(zip(names, take(values), strict=True))


@dataclass(frozen=True, slots=True)
class _Timeframe:
    name: str
    plain: _Picker | None
    nested: tuple[tuple[str, _Picker], ...]


class MetricsLayout:
    """How rows become JSON: all timeframes and fields, or only those named. Nulls are NaN in, null out."""

    def __init__(self, timeframes: Collection[str] = (), fields: Collection[str] = ()) -> None:
        self._top = None if fields else _picker({name: name for name in TOP_FIELDS})
        self._timeframes = tuple(
            self._timeframe(name, fields or FIELD_NAMES)
            for name in TIMEFRAMES
            if name in (timeframes or TIMEFRAMES)
        )

    @staticmethod
    def _timeframe(timeframe: str, fields: Collection[str]) -> _Timeframe:
        plain = {name: f"{field}_{timeframe}" for name, field in PLAIN_FIELDS.items() if name in fields}
        nested = tuple(
            (name, _picker(by_timeframe[timeframe]))
            for name, by_timeframe in NESTED_FIELDS.items()
            if name in fields and timeframe in by_timeframe
        )
        return _Timeframe(timeframe, _picker(plain) if plain else None, nested)

    def encode(self, row: LatestRow) -> bytes:
        values = row.values
        timeframes = {}
        for timeframe in self._timeframes:
            fields = timeframe.plain(values) if timeframe.plain else {}
            for name, pick in timeframe.nested:
                fields[name] = pick(values)
            timeframes[timeframe.name] = fields
        return orjson.dumps(
            {
                "symbol": row.symbol,
                "exchange": row.exchange,
                "timestamp": rfc3339(row.event_ts_ms),
                "open_time": rfc3339(row.open_time_ms),
                "closed": row.closed,
                **(self._top(values) if self._top else {}),
                "timeframes": timeframes,
            }
        )


class EncodedMetrics:
    """The JSON of each symbol in one layout (by default whole), encoded once per change of its row."""

    def __init__(self, latest: LatestMetrics, layout: MetricsLayout | None = None) -> None:
        self._latest = latest
        self._layout = layout or MetricsLayout()
        self._encoded: dict[str, tuple[int, bytes]] = {}

    def of(self, symbol: str) -> bytes | None:
        """None for a symbol never seen."""
        if symbol not in self._latest:
            return None
        version = self._latest.version(symbol)
        known = self._encoded.get(symbol)
        if known is None or known[0] != version:
            row = self._latest.row(symbol)
            if row is None:
                return None
            known = self._encoded[symbol] = (version, self._layout.encode(row))
        return known[1]
