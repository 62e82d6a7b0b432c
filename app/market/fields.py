"""Every metric, in one table: name, unit, meaning, what has to be computed for it, where it is shown and stored.

A column is `field_timeframe`; the few fields without a timeframe are columns by themselves. All are float64, NaN is
null. Columns, plans of computation, table rows and the JSON of the API are made of this table; a new metric is an entry
here, the code that fills it, and a migration that adds its database column. For one on clock-aligned bars that code is
a `BarIndicator` (`bar_indicators.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto
from typing import Final

from app.market.timeframes import TIMEFRAMES


class Need(Flag):
    """What a field is computed from."""

    NOTHING = 0
    WINDOWS = auto()
    """The sliding windows' sums."""
    VOLUME = auto()
    TRADES = auto()
    PREVIOUS = auto()
    """The sums of the N minutes before the window."""
    EXTREMES = auto()
    BARS = auto()
    """The clock-aligned bars so far."""
    RECURSIVE = auto()
    """The averages that move with every closed bar, and the values made of them."""
    BANDS = auto()
    SINCE = auto()
    """Sums since the day or the week began."""
    CLOUD = auto()
    BUBBLES = auto()
    SURGE = auto()


@dataclass(frozen=True, slots=True)
class Field:
    """One metric. timeframes: those that have it, None for all, empty for a column without a timeframe. whole: what
    must be known for it not to be null. group, key: its place in the API's JSON: under this key in this object of the
    timeframe or, without a group, in the timeframe's own object (a column without a timeframe stands beside the
    timeframes). stored: its database column.
    """

    name: str
    unit: str
    meaning: str
    needs: Need
    whole: str = "the window"
    timeframes: tuple[str, ...] | None = None
    group: str = ""
    key: str = ""
    stored: str = ""

    def column(self, timeframe: str) -> str:
        return f"{self.name}_{timeframe}" if self.timeframes != () else self.name

    @property
    def json_key(self) -> str:
        return self.key or self.name

    @property
    def database_column(self) -> str:
        return self.stored or self.name


_SUMS = Need.WINDOWS
_RANGE = Need.WINDOWS | Need.EXTREMES
_BAR = Need.BARS | Need.EXTREMES
_AVERAGE = _BAR | Need.RECURSIVE
_BAND = _AVERAGE | Need.BANDS


def _pivot(key: str, meaning: str) -> Field:
    return Field(f"fib_{key}", "price", meaning, _RANGE, group="fibonacci", key=key)


def _average(name: str, unit: str, meaning: str, bars: int, needs: Need = _AVERAGE) -> Field:
    return Field(name, unit, meaning, needs, f"{bars} bars in a row")


def _cloud(part: str, meaning: str) -> Field:
    return Field(
        f"ichimoku_{part}",
        "price",
        meaning,
        _BAR | Need.CLOUD,
        "the bars it is made of",
        ("15m",),
        "ichimoku",
        part,
    )


def _bubble(part: str, unit: str, meaning: str, timeframe: str) -> Field:
    return Field(
        f"bubble_{part}",
        unit,
        meaning,
        _BAR | Need.BUBBLES,
        "20 bars before",
        (timeframe,),
        "volume_bubble",
        part,
    )


def _surge(part: str, unit: str, meaning: str) -> Field:
    return Field(f"surge_{part}", unit, meaning, _BAR | Need.SURGE, "23 bars", ("5m",), "volume_surge", part)


TABLE: Final[tuple[Field, ...]] = (
    Field("open", "price", "of the window's first minute", Need.NOTHING, "that minute"),
    Field("high", "price", "highest of the window", _RANGE),
    Field("low", "price", "lowest of the window", _RANGE),
    Field("close", "price", "of the last minute", Need.NOTHING, "that minute"),
    Field("base_volume", "base asset", "sum of the window", _SUMS | Need.VOLUME, key="volume", stored="volume"),
    Field("quote_volume", "quote asset", "sum of the window; `volume_N` in rules", _SUMS),
    Field("trades", "count", "sum of the window", _SUMS | Need.TRADES),
    Field("vwap", "price", "quote volume / base volume", _SUMS | Need.VOLUME, "the window, and base volume above 0"),
    Field("price_change", "percent", "against the close N minutes earlier", Need.NOTHING, "those two minutes"),
    Field(
        "volume_ratio", "ratio", "quote volume of the window / that of the N minutes before it",
        _SUMS | Need.PREVIOUS, "both, and the second above 0",
    ),
    Field("coverage", "0..1", "minutes present / N", _SUMS, "nothing: it is never null"),
    Field(
        "vcp", "ratio", "close / vwap * ((close - low) - (high - close)) / (high - low); 0 if high = low",
        _RANGE | Need.VOLUME, "the window, and base volume above 0",
    ),
    _pivot("pivot", "(high + low + close) / 3 of the window"),
    _pivot("r1", "pivot + 0.382 * (high - low)"),
    _pivot("r2", "pivot + 0.618 * (high - low)"),
    _pivot("r3", "pivot + (high - low)"),
    _pivot("s1", "pivot - 0.382 * (high - low)"),
    _pivot("s2", "pivot - 0.618 * (high - low)"),
    _pivot("s3", "pivot - (high - low)"),
    _average("rsi_14", "0..100", "relative strength index (Wilder)", 15),
    _average("macd", "price", "moving averages 12 and 26, their difference", 34),
    _average("macd_signal", "price", "exponential average over 9 of macd", 34),
    _average("macd_hist", "price", "macd - macd_signal", 34),
    _average("bb_upper", "price", "bb_middle + two deviations (population)", 20, _BAND),
    _average("bb_middle", "price", "mean of the last 20 closes", 20, _BAND),
    _average("bb_lower", "price", "bb_middle - two deviations (population)", 20, _BAND),
    _average("atr_14", "price", "average true range (Wilder)", 15),
    _average("ema_20", "price", "exponential average of closes", 20),
    _average("ema_50", "price", "exponential average of closes", 50),
    Field("vwap_day", "price", "since 00:00 UTC", Need.SINCE | Need.VOLUME, "every minute since", ()),
    Field("vwap_week", "price", "since Monday 00:00 UTC", Need.SINCE | Need.VOLUME, "every minute since", ()),
    _cloud("conversion", "middle of the range of 9 bars"),
    _cloud("base", "middle of the range of 26 bars"),
    _cloud("span_a", "mean of conversion and base 26 bars earlier"),
    _cloud("span_b", "middle of the range of 52 bars, 26 bars earlier"),
    *(
        _bubble(part, unit, meaning, timeframe)
        for timeframe in ("5m", "15m")
        for part, unit, meaning in (
            ("z", "deviations", "z-score of the bar's quote volume among the bars before"),
            ("size", "0..3", "0 none, 1 small, 2 medium, 3 large"),
            ("side", "-1 0 1", "sign of the bar's change, 0 without a bubble"),
        )
    ),
    _surge("ratio", "ratio", "least quote volume of the last three closed bars / mean of the 20 before them"),
    _surge("side", "-1 0 1", "1 if the closes of the three rise throughout, -1 if they fall"),
    Field("high_10m", "price", "highest of the last ten minutes", _RANGE, "those minutes", ()),
    Field("low_10m", "price", "lowest of the last ten minutes", _RANGE, "those minutes", ()),
)  # fmt: skip
"""In the order of the columns. The fields that every timeframe has come first."""

EVERYWHERE: Final = tuple(field for field in TABLE if field.timeframes is None)
ELSEWHERE: Final = tuple(field for field in TABLE if field.timeframes is not None)

FIELDS: Final = tuple(field.name for field in EVERYWHERE)
"""Fields that every timeframe has."""
BAR_FIELDS: Final = tuple(field.name for field in EVERYWHERE if Need.RECURSIVE in field.needs)
PIVOT_FIELDS: Final = tuple(field.name for field in EVERYWHERE if field.group == "fibonacci")
WINDOW_FIELDS: Final = tuple(name for name in FIELDS if name not in BAR_FIELDS + PIVOT_FIELDS)

FIELD_OF_SINGLE: Final[dict[str, Field]] = {
    field.column((field.timeframes or ("",))[0]): field for field in ELSEWHERE
}
"""Column -> field, of the columns that not every timeframe has."""
SINGLE_COLUMNS: Final = tuple(FIELD_OF_SINGLE)

METRIC_COLUMNS: Final[tuple[str, ...]] = (
    tuple(field.column(timeframe) for timeframe in TIMEFRAMES for field in EVERYWHERE) + SINGLE_COLUMNS
)

COLUMN_POSITION: Final[dict[str, int]] = {name: i for i, name in enumerate(METRIC_COLUMNS)}
NEEDS: Final[dict[str, Need]] = {
    **{field.column(timeframe): field.needs for timeframe in TIMEFRAMES for field in EVERYWHERE},
    **{column: field.needs for column, field in FIELD_OF_SINGLE.items()},
}
"""Column -> what it is computed from."""
