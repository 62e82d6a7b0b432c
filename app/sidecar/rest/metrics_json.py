"""The JSON of a symbol's latest metrics: flat columns laid out by timeframe."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from operator import itemgetter
from typing import Final

import orjson

from app.market.fields import COLUMN_POSITION, ELSEWHERE, EVERYWHERE
from app.market.timeframes import TIMEFRAMES
from app.sidecar.state.latest import LatestMetrics, LatestRow
from app.times import rfc3339

PLAIN_FIELDS: Final = {field.json_key: field.name for field in EVERYWHERE if not field.group}
"""JSON name -> column field, of values that every timeframe has. `volume` is in the base asset."""


def _nested() -> dict[str, dict[str, dict[str, str]]]:
    """Return JSON name -> timeframe -> JSON name within -> column."""
    nested: dict[str, dict[str, dict[str, str]]] = {}
    for field in (*EVERYWHERE, *ELSEWHERE):
        if field.group:
            for timeframe in TIMEFRAMES if field.timeframes is None else field.timeframes:
                place = nested.setdefault(field.group, {}).setdefault(timeframe, {})
                place[field.json_key] = field.column(timeframe)
    return nested


NESTED_FIELDS: Final = _nested()
TOP_FIELDS: Final = tuple(field.name for field in ELSEWHERE if field.timeframes == ())
"""Columns that stand beside the timeframes."""
FIELD_NAMES: Final = (*PLAIN_FIELDS, *NESTED_FIELDS)

_ROWS_KEPT: Final = 1_024
"""Symbols whose values are kept as JSON: up to 20 kB each."""


class RowTexts:
    """The values of a symbol as JSON texts, made once per change of its row, for all layouts."""

    def __init__(self, latest: LatestMetrics) -> None:
        self._latest = latest
        self._kept: OrderedDict[str, tuple[int, bytes, list[bytes]]] = OrderedDict()
        self.made = 0
        """Rows turned into text so far."""

    def of(self, symbol: str) -> tuple[bytes, list[bytes]] | None:
        """Return the object's beginning, and the text of each of METRIC_COLUMNS; None for a symbol never seen."""
        if symbol not in self._latest:
            return None
        version = self._latest.version(symbol)
        kept = self._kept.get(symbol)
        if kept is None or kept[0] != version:
            row = self._latest.row(symbol)
            if row is None:
                return None
            self.made += 1
            kept = self._kept[symbol] = (version, *row_texts(row))
            if len(self._kept) > _ROWS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(symbol)
        return kept[1], kept[2]


def row_texts(row: LatestRow) -> tuple[bytes, list[bytes]]:
    """Return the texts of a row, as `RowTexts.of` does. NaN becomes null."""
    head = orjson.dumps(
        {
            "symbol": row.symbol,
            "exchange": row.exchange,
            "timestamp": rfc3339(row.event_ts_ms),
            "open_time": rfc3339(row.open_time_ms),
            "closed": row.closed,
        }
    )
    return head[:-1], orjson.dumps(row.values)[1:-1].split(b",")


class MetricsLayout:
    """Layout of rows as JSON: all timeframes and fields, or only the named ones."""

    def __init__(self, timeframes: Collection[str] = (), fields: Collection[str] = ()) -> None:
        self._columns: list[str] = []
        top = "" if fields else "".join(f',"{name}":{self._place(name)}' for name in TOP_FIELDS)
        members = (
            f'"{name}":{self._timeframe(name, fields or FIELD_NAMES)}'
            for name in TIMEFRAMES
            if name in (timeframes or TIMEFRAMES)
        )
        self._template = f'{top},"timeframes":{{{",".join(members)}}}}}'.encode()
        positions = [COLUMN_POSITION[column] for column in self._columns]
        self._take = itemgetter(*positions) if positions else lambda _: ()

    def _place(self, column: str) -> str:
        """Return the placeholder of this column's text."""
        self._columns.append(column)
        return "%b"

    def _object(self, columns: dict[str, str]) -> str:
        return "{" + ",".join(f'"{name}":{self._place(column)}' for name, column in columns.items()) + "}"

    def _timeframe(self, timeframe: str, fields: Collection[str]) -> str:
        members = [
            f'"{name}":{self._place(f"{field}_{timeframe}")}'
            for name, field in PLAIN_FIELDS.items()
            if name in fields
        ]
        members += [
            f'"{name}":{self._object(by_timeframe[timeframe])}'
            for name, by_timeframe in NESTED_FIELDS.items()
            if name in fields and timeframe in by_timeframe
        ]
        return "{" + ",".join(members) + "}"

    def encode(self, head: bytes, values: list[bytes]) -> bytes:
        """Return the JSON of the result of `row_texts`."""
        return head + self._template % self._take(values)


class EncodedMetrics:
    """The JSON of each symbol in one layout (by default the whole one), encoded once per change of its row."""

    def __init__(
        self, latest: LatestMetrics, layout: MetricsLayout | None = None, texts: RowTexts | None = None
    ) -> None:
        self._latest = latest
        self._texts = texts or RowTexts(latest)
        self._layout = layout or MetricsLayout()
        self._encoded: dict[str, tuple[int, bytes]] = {}

    def __len__(self) -> int:
        """Return the number of symbols whose JSON is cached: never more than the latest metrics have."""
        return len(self._encoded)

    def of(self, symbol: str) -> bytes | None:
        """Return the JSON of a symbol; None for an unknown symbol."""
        if symbol not in self._latest:
            return None
        version = self._latest.version(symbol)
        known = self._encoded.get(symbol)
        if known is None or known[0] != version:
            texts = self._texts.of(symbol)
            if texts is None:
                return None
            known = self._encoded[symbol] = (version, self._layout.encode(*texts))
            if len(self._encoded) > len(self._latest):
                self._encoded = {kept: self._encoded[kept] for kept in self._encoded if kept in self._latest}
        return known[1]
