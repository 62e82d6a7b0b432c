"""The alerts that a set of candles must give in `close` mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from tests.oracle.ichimoku import crossings
from tests.oracle.rules import RULES, Comparison
from tests.oracle.windows import Windows, windows_of

COOLDOWN_MS = 300_000
CLOSE_CALL = 1e-9

Alert = tuple[str, str, int]
"""rule_type, symbol, open time of the candle in UTC ms."""


def close_mode_alerts(parquet_path: str | Path) -> set[Alert]:
    """Return the alerts of a candle file with the columns symbol, open_time_ms, close and quote_volume."""
    return close_mode_alerts_of(read_columns(parquet_path))


def close_mode_alerts_of(columns: Mapping[str, ArrayLike]) -> set[Alert]:
    """Return the alerts of candles in any order, given as equally long columns.

    The columns `symbol`, `open_time_ms`, `close`, `quote_volume` are needed. With a boolean column `closed`, forming
    candles are left out. Of several closed candles of one minute the last one counts.
    """
    alerts: set[Alert] = set()
    for symbol, windows in windows_by_symbol(columns):
        for rule_type, rule in RULES.items():
            met = windows.present & _all_hold(rule(windows.price_change, windows.volume))
            alerts |= {(rule_type, symbol, at_ms) for at_ms in cooled_down(windows.minutes_ms[met].tolist())}
    return alerts


def close_mode_ichimoku_alerts(parquet_path: str | Path) -> set[Alert]:
    """Return the alerts of the two Ichimoku rules on a candle file that also has high and low."""
    table = pq.read_table(parquet_path, columns=["symbol", "open_time_ms", "high", "low", "close"])
    return close_mode_ichimoku_alerts_of({name: table.column(name).to_numpy() for name in table.column_names})


def close_mode_ichimoku_alerts_of(columns: Mapping[str, ArrayLike]) -> set[Alert]:
    """Return the same for closed candles in any order, each minute once, given as equally long columns."""
    symbol = np.asarray(columns["symbol"], dtype=str)
    open_time_ms = np.asarray(columns["open_time_ms"], dtype=np.int64)
    prices = [np.asarray(columns[name], dtype=np.float64) for name in ("high", "low", "close")]
    alerts: set[Alert] = set()
    for name in sorted(set(symbol.tolist())):
        rows = np.flatnonzero(symbol == name)
        found = crossings(open_time_ms[rows], *(column[rows] for column in prices))
        for rule_type, times_ms in found.items():
            alerts |= {(rule_type, name, at_ms) for at_ms in cooled_down(times_ms)}
    return alerts


def cooled_down(times_ms: list[int]) -> Iterator[int]:
    """Yield the times at which a rule fires, given the times at which its condition is true, in order."""
    last_fired_ms: int | None = None
    for at_ms in times_ms:
        if last_fired_ms is None or at_ms - last_fired_ms >= COOLDOWN_MS:
            yield at_ms
            last_fired_ms = at_ms


def close_calls(columns: Mapping[str, ArrayLike]) -> list[tuple[str, str, int, float, float]]:
    """Return the decisions that rounding could change: (rule_type, symbol, open_time_ms, greater, smaller).

    These are comparisons whose sides differ by at most 1e-9 relative, while every other comparison of the rule is true
    or as close, so that the outcome of the rule depends on them.
    """
    found = []
    for symbol, windows in windows_by_symbol(columns):
        for rule_type, rule in RULES.items():
            comparisons = rule(windows.price_change, windows.volume)
            close = [_is_close(greater, smaller) for greater, smaller in comparisons]
            possible = windows.present.copy()
            for (greater, smaller), near in zip(comparisons, close, strict=True):
                possible &= np.greater(greater, smaller) | near
            for (greater, smaller), near in zip(comparisons, close, strict=True):
                left, right, at_ms = np.broadcast_arrays(greater, smaller, windows.minutes_ms)
                for row in np.flatnonzero(possible & near):
                    found.append((rule_type, symbol, int(at_ms[row]), float(left[row]), float(right[row])))
    return found


def read_columns(parquet_path: str | Path) -> dict[str, NDArray[Any]]:
    """Read the columns of a candle file that the alerts depend on."""
    table = pq.read_table(parquet_path, columns=["symbol", "open_time_ms", "close", "quote_volume"])
    return {name: table.column(name).to_numpy() for name in table.column_names}


def windows_by_symbol(columns: Mapping[str, ArrayLike]) -> Iterator[tuple[str, Windows]]:
    """Yield each symbol, sorted by name, with its windows."""
    symbol = np.asarray(columns["symbol"], dtype=str)
    open_time_ms = np.asarray(columns["open_time_ms"], dtype=np.int64)
    close = np.asarray(columns["close"], dtype=np.float64)
    quote_volume = np.asarray(columns["quote_volume"], dtype=np.float64)
    closed = np.asarray(columns.get("closed", np.ones(len(symbol))), dtype=bool)
    for name in sorted(set(symbol.tolist())):
        row_of_minute = {int(open_time_ms[row]): row for row in np.flatnonzero((symbol == name) & closed)}
        rows = np.array(sorted(row_of_minute.values()), dtype=np.int64)
        if len(rows):
            yield name, windows_of(open_time_ms[rows], close[rows], quote_volume[rows])


def _all_hold(comparisons: list[Comparison]) -> NDArray[np.bool_]:
    held: NDArray[np.bool_] = np.logical_and.reduce([np.greater(left, right) for left, right in comparisons])
    return held


def _is_close(left: ArrayLike, right: ArrayLike) -> NDArray[np.bool_]:
    left, right = np.asarray(left), np.asarray(right)
    near: NDArray[np.bool_] = np.abs(left - right) <= CLOSE_CALL * np.maximum(np.abs(left), np.abs(right))
    return near
