"""Bars of any interval, made of the rows of candle tables.

The rows are read as whole columns: decoding them value by value, and summing decimals in the database, would take most
of the time of a chart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from typing import Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, BoolArray, FloatArray, IndexArray, IntArray
from app.candles.intervals import Interval
from app.database.binary_format import array_values, to_ms

_PRICES: Final = 4
_VOLUMES: Final = 4
_VOLUME_BELOW: Final = 1e30
"""Sums of volumes below it stay finite."""
_TRADES_MOST: Final = 10**12
_ZERO: Final = Decimal(0)
_EXACT: Final = Context(prec=500)
"""More digits than a sum of doubles below 1e30 can have."""


class Kline(NamedTuple):
    """A bar. Times are UTC ms; close_time_ms: the bar's last millisecond. Volumes are sums in base and quote asset,
    exact in decimals. taker_*: None where the exchange does not give them for all minutes.

    A tuple, because a chart makes hundreds of them.
    """

    open_time_ms: int
    close_time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: Decimal
    quote_volume: Decimal
    trades: int
    taker_buy_volume: Decimal | None
    taker_buy_quote_volume: Decimal | None


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of candle tables as columns.

    time_ms (UTC), trades and minutes: shape (rows,). prices: (4, rows), open, high, low, close. volumes: (4, rows), in
    base and quote asset, then of takers. unknown: (4, rows), true where the exchange does not give a volume.
    """

    time_ms: IntArray
    prices: FloatArray
    volumes: FloatArray
    unknown: BoolArray
    trades: IntArray
    minutes: IntArray

    @classmethod
    def decoded(cls, columns: Sequence[bytes]) -> Rows:
        """Return the rows of the query `klines`, sorted by time."""
        time, trades, minutes = (array_values(one, ">i8").astype(np.int64) for one in columns[:3])
        numbers = np.stack([array_values(one, ">f8").astype(np.float64) for one in columns[3:11]])
        of_takers = np.stack([array_values(one, "?").astype(np.bool_) for one in columns[11:]])
        unknown = np.concatenate([np.zeros_like(of_takers), of_takers])
        order = np.argsort(time, kind="stable")
        return cls(
            to_ms(time[order]),
            numbers[:_PRICES, order],
            numbers[_PRICES:, order],
            unknown[:, order],
            trades[order],
            minutes[order],
        )

    def good(self) -> BoolArray:
        """Return, of shape (rows,), whether the values of a row are valid for a candle."""
        prices = (self.prices > 0) & (self.prices < np.inf)
        volumes = self.unknown | ((self.volumes >= 0) & (self.volumes < _VOLUME_BELOW))
        trades = (self.trades >= 0) & (self.trades <= _TRADES_MOST)
        found: BoolArray = np.logical_and.reduce([*prices, *volumes, trades])
        return found


def bars_of(rows: Rows, interval: Interval, newest_ms: int) -> tuple[list[Kline], IntArray]:
    """Return the bars that miss no minute up to the newest one (UTC ms), oldest first, and the open times of the bars
    that are left out because a row has invalid values."""
    if not len(rows.time_ms):
        return [], np.empty(0, np.int64)
    start_ms, end_ms = _bar_around(rows.time_ms, interval)
    first = np.flatnonzero(np.diff(start_ms, prepend=start_ms[0] - 1))
    is_good = np.logical_and.reduceat(rows.good(), first)
    wanted = (np.minimum(end_ms[first], newest_ms + MINUTE_MS) - start_ms[first]) // MINUTE_MS
    kept = is_good & (np.add.reduceat(rows.minutes, first) == wanted)
    behind = np.append(first[1:], len(start_ms))
    opens, highs, lows, closes = rows.prices
    begin, end = first[kept].astype(np.int32), behind[kept].astype(np.int32)
    volumes = (
        _sums(volume, unknown, begin, end) for volume, unknown in zip(rows.volumes, rows.unknown, strict=True)
    )
    volume, quote_volume, taker_volume, taker_quote_volume = volumes
    columns = (
        start_ms[begin].tolist(),
        (end_ms[begin] - 1).tolist(),
        opens[begin].tolist(),
        np.maximum.reduceat(highs, first)[kept].tolist(),
        np.minimum.reduceat(lows, first)[kept].tolist(),
        closes[end - 1].tolist(),
        volume,
        quote_volume,
        np.add.reduceat(rows.trades, first)[kept].tolist(),
        taker_volume,
        taker_quote_volume,
    )
    return [Kline(*values) for values in zip(*columns, strict=True)], start_ms[first[~is_good]]


def _bar_around(time_ms: IntArray, interval: Interval) -> tuple[IntArray, IntArray]:
    """Return, of shape (rows,), the begin of each row's bar and of the bar after it, UTC ms."""
    if interval.length_ms is None:
        months = time_ms.astype("datetime64[ms]").astype("datetime64[M]")
        return _month_ms(months), _month_ms(months + 1)
    start_ms: IntArray = time_ms - (time_ms - interval.origin_ms) % interval.length_ms
    return start_ms, start_ms + interval.length_ms


def _month_ms(months: NDArray[np.datetime64]) -> IntArray:
    begins: IntArray = months.astype("datetime64[ms]").astype(np.int64)
    return begins


def _sums(values: FloatArray, unknown: BoolArray, begin: IndexArray, end: IndexArray) -> list[Decimal | None]:
    """Return for each bar the sum of the rows from `begin` to before `end`, in the decimals that the numbers are
    written as; None if one of them is unknown."""
    # values that are not finite are only in bars that are left out
    texts = shortest_texts(np.where(np.isfinite(values), values + 0.0, 0.0).tolist())
    decimals = [_decimal(text) for text in texts]
    unknown_before = np.append(0, np.cumsum(unknown))
    is_known = unknown_before[end] == unknown_before[begin]
    bars = zip(begin.tolist(), end.tolist(), is_known.tolist(), strict=True)
    with localcontext(_EXACT):
        return [
            (decimals[at] if to == at + 1 else sum(decimals[at:to], _ZERO)) if known else None
            for at, to, known in bars
        ]


def _decimal(text: str) -> Decimal:
    """Return the number as PostgreSQL writes it: without a fraction of 0."""
    return Decimal(text.removesuffix(".0"))


def shortest_texts(values: Sequence[float]) -> list[str]:
    """Return for each finite number the shortest text that no other number has, some with an exponent.

    Like `repr`, at a tenth of the cost.
    """
    return orjson.dumps(values).decode()[1:-1].split(",") if values else []
