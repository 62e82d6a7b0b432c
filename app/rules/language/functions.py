"""The functions of the language, in one table: arguments, node of the tree, and computation.

Parser, evaluation, explanation, the names that may be used and the page of the language all read it. A function of
numbers alone is an entry; one that looks at other minutes or other symbols also has a node of its own in `tree.py`,
which `call_nodes.py` makes of a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np

from app.market.tracks.windows import Over
from app.rules.language.call_nodes import Build, crossing, indicator, lately, over_time, previous, universe
from app.rules.language.tree import Closes, Function, WithReference
from app.rules.market.statistics import mean, median, of_symbol, pct_rank, rank, share

Kernel = Callable[..., Any]


class Kind(Enum):
    """The kind of an argument; the value describes it in messages."""

    NUMBER = "a number"
    CONDITION = "a condition"
    DURATION = "a duration such as 15m, 4h or 1d"
    TIMEFRAME = "a timeframe"
    LENGTH = "a number of bars"
    SOURCE = "a value of a bar, such as close, or an indicator of the same timeframe"
    SYMBOL = "a symbol such as BTCUSDT"


@dataclass(frozen=True, slots=True)
class RuleFunction:
    """One function. signature: how it is written, for the page of the language. takes: the kinds of its arguments.
    more: whether any number of arguments of the last kind may follow.

    kernel: for arrays of rows, NaN is null; with one argument, or with two and applied from left to right; None where
    the node is evaluated in its own way. scalar: the same for one row's numbers, for explanations; None where an
    explanation has to know other minutes or symbols. universe: it looks at all symbols at one minute, in rules at the
    one that is sealed; `app.rules.market` computes it. meaning, null: for the page of the language; null: when the
    value is null, besides a null argument.
    """

    signature: str
    takes: tuple[Kind, ...]
    build: Build
    meaning: str
    null: str = ""
    more: bool = False
    kernel: Kernel | None = None
    scalar: Callable[[Sequence[float]], float] | None = None
    universe: bool = False
    over: Over | None = None
    """The function over the last minutes that it is, if any."""

    @property
    def name(self) -> str:
        return self.signature.partition("(")[0]

    def kind_at(self, place: int) -> Kind | None:
        """Return the kind of the argument at this place; None if there is none."""
        if place < len(self.takes):
            return self.takes[place]
        return self.takes[-1] if self.more else None

    def accepts(self, given: int) -> bool:
        return given == len(self.takes) or (self.more and given > len(self.takes))

    @property
    def arity(self) -> str:
        """The number of arguments, in words."""
        least = len(self.takes)
        if self.more:
            return "two or more arguments"
        return f"{least} argument{'s' * (least != 1)}"


_NUMBER: Final = (Kind.NUMBER,)
_TWO: Final = (Kind.NUMBER, Kind.NUMBER)
_OF_NUMBER: Final = (Kind.NUMBER, Kind.DURATION)
_OF_CONDITION: Final = (Kind.CONDITION, Kind.DURATION)
_ANY_UNKNOWN: Final = "x is unknown in any of them"

OVER_TIME: Final = (
    RuleFunction(
        "ago(x, d)", _OF_NUMBER, over_time, "x at the minute d earlier", "that minute is unknown",
        over=Over.EARLIER,
    ),
    RuleFunction(
        "highest(x, d)", _OF_NUMBER, over_time, "largest x of the last d minutes, the current one included",
        _ANY_UNKNOWN, over=Over.HIGHEST,
    ),
    RuleFunction(
        "lowest(x, d)", _OF_NUMBER, over_time, "smallest x of the last d minutes, the current one included",
        _ANY_UNKNOWN, over=Over.LOWEST,
    ),
    RuleFunction(
        "average(x, d)", _OF_NUMBER, over_time, "mean of x over the last d minutes, the current one included",
        _ANY_UNKNOWN, over=Over.AVERAGE,
    ),
    RuleFunction(
        "stdev(x, d)", _OF_NUMBER, over_time,
        "population standard deviation of x over the last d minutes, the current one included",
        _ANY_UNKNOWN, over=Over.DEVIATION,
    ),
    RuleFunction(
        "zscore(x, d)", _OF_NUMBER, over_time,
        "(x - mean) / standard deviation of the d minutes before the current one",
        "x is unknown in any of them or now, or the deviation is 0", over=Over.SCORE,
    ),
    RuleFunction(
        "count(c, d)", _OF_CONDITION, over_time, "in how many of the last d minutes c was true",
        "c is unknown in any of them", over=Over.TOTAL,
    ),
    RuleFunction(
        "within(c, d)", _OF_CONDITION, lately, "a condition: c was true in any of the last d minutes",
        "c was never true and is unknown in any of them", over=Over.WITHIN,
    ),
    RuleFunction(
        "always(c, d)", _OF_CONDITION, lately, "a condition: c was true in all of the last d minutes",
        "c was never false and is unknown in any of them", over=Over.ALWAYS,
    ),
    RuleFunction(
        "streak(c)", (Kind.CONDITION,), over_time,
        "for how many minutes in a row, up to now, c has been true; 0 if it is false now; at most 1,440; an unknown "
        "minute ends the streak",
        "c is unknown now", over=Over.STREAK,
    ),
    RuleFunction(
        "since(c)", (Kind.CONDITION,), over_time,
        "minutes since c was last true, 0 = now; looks back 1,440 minutes at most, past unknown ones",
        "it was not true in them", over=Over.SINCE,
    ),
    RuleFunction(
        "closes(tf)", (Kind.TIMEFRAME,), Closes,
        "a condition: a clock-aligned bar of the timeframe ends with this closed minute", "never; false while forming",
    ),
)  # fmt: skip

_OF_SOURCE: Final = (Kind.SOURCE, Kind.LENGTH, Kind.TIMEFRAME)
_OF_BARS: Final = (Kind.LENGTH, Kind.TIMEFRAME)
INDICATORS: Final = (
    RuleFunction("sma(s, n, tf)", _OF_SOURCE, indicator(), "mean of the last n bars", "fewer than n bars"),
    RuleFunction("ema(s, n, tf)", _OF_SOURCE, indicator(), "exponential average", "fewer than n bars"),
    RuleFunction("rsi(s, n, tf)", _OF_SOURCE, indicator(), "Wilder's RSI, 0 to 100", "fewer than n + 1 bars"),
    RuleFunction(
        "atr(n, tf)", _OF_BARS, indicator("high", "low", "close"), "Wilder's average true range",
        "fewer than n + 1 bars",
    ),
    RuleFunction(
        "stddev(s, n, tf)", _OF_SOURCE, indicator(), "population standard deviation of the last n bars",
        "fewer than n bars",
    ),
    RuleFunction(
        "roc(s, n, tf)", _OF_SOURCE, indicator(), "percent against n bars earlier; 0 if that was 0",
        "fewer than n + 1 bars",
    ),
    RuleFunction(
        "macd(s, fast, slow, tf)", (Kind.SOURCE, Kind.LENGTH, Kind.LENGTH, Kind.TIMEFRAME), indicator(),
        "difference of two exponential averages", "fewer than `slow` bars",
    ),
    RuleFunction(
        "macd_signal(s, fast, slow, signal, tf)",
        (Kind.SOURCE, Kind.LENGTH, Kind.LENGTH, Kind.LENGTH, Kind.TIMEFRAME), indicator(),
        "exponential average of macd", "fewer than slow + signal - 1 bars",
    ),
    RuleFunction(
        "stoch_k(n, tf)", _OF_BARS, indicator("high", "low", "close"),
        "where the close stands in the range of the last n bars, 0 to 100; 0 if the range is 0", "fewer than n bars",
    ),
    RuleFunction(
        "adx(n, tf)", _OF_BARS, indicator("high", "low", "close"), "Wilder's average directional index, 0 to 100",
        "fewer than 2 n bars",
    ),
    RuleFunction(
        "obv(tf)", (Kind.TIMEFRAME,), indicator("close", "volume"),
        "on-balance volume, counted from the first bar known: compare it with its own past only", "no bar",
    ),
    RuleFunction(
        "donchian_high(n, tf)", _OF_BARS, indicator("high"), "highest price of the last n bars", "fewer than n bars",
    ),
    RuleFunction(
        "donchian_low(n, tf)", _OF_BARS, indicator("low"), "lowest price of the last n bars", "fewer than n bars",
    ),
)  # fmt: skip
"""Indicators of any length on clock-aligned bars, the last one forming. Formulas and first values: TA-Lib's."""

TABLE: Final[tuple[RuleFunction, ...]] = (
    RuleFunction(
        "abs(x)", _NUMBER, Function, "absolute value", kernel=np.absolute, scalar=lambda values: abs(values[0]),
    ),
    RuleFunction("min(x, y, ...)", _TWO, Function, "the smallest", more=True, kernel=np.minimum, scalar=min),
    RuleFunction("max(x, y, ...)", _TWO, Function, "the largest", more=True, kernel=np.maximum, scalar=max),
    RuleFunction(
        "prev(x)", _NUMBER, previous,
        "x at the previous closed minute; up to 8 minutes back by nesting; of a constant, the constant",
        null="that minute was not evaluated",
    ),
    RuleFunction(
        "crosses_above(a, b)", _TWO, crossing,
        "a condition: `prev(a) <= prev(b) and a > b`; either may be a constant, such as 70",
    ),
    RuleFunction("crosses_below(a, b)", _TWO, crossing, "a condition: `prev(a) >= prev(b) and a < b`"),
    *OVER_TIME,
    *INDICATORS,
    RuleFunction(
        "rank(x)", _NUMBER, universe,
        "rank of the symbol by x among all symbols, 1 = largest, equal values share the best rank",
        universe=True, kernel=rank,
    ),
    RuleFunction(
        "pct_rank(x)", _NUMBER, universe,
        "share of the other symbols with a smaller x, 0 to 1; equal values count half",
        null="no other symbol is known", universe=True, kernel=pct_rank,
    ),
    RuleFunction(
        "mean(x)", _NUMBER, universe, "mean of x over all symbols",
        null="fewer than 2 symbols are known", universe=True, kernel=mean,
    ),
    RuleFunction(
        "median(x)", _NUMBER, universe, "median of x over all symbols",
        null="fewer than 2 symbols are known", universe=True, kernel=median,
    ),
    RuleFunction(
        "share(c)", (Kind.CONDITION,), universe,
        "of the symbols for which the condition c is true or false, the share for which it is true, 0 to 1",
        null="fewer than 2 symbols are known", universe=True, kernel=share,
    ),
    RuleFunction(
        "of(BTCUSDT, x)", (Kind.SYMBOL, Kind.NUMBER), universe, "x of that symbol",
        null="the symbol is unknown", universe=True, kernel=of_symbol,
    ),
    RuleFunction(
        "corr(BTCUSDT, d)", (Kind.SYMBOL, Kind.DURATION), WithReference,
        "correlation of the symbol's 1-minute returns with those of that symbol over the last d minutes, -1 to 1",
        null="a return of them is unknown, or one of the two does not move", universe=True,
    ),
    RuleFunction(
        "beta(BTCUSDT, d)", (Kind.SYMBOL, Kind.DURATION), WithReference,
        "covariance of these returns / variance of that symbol's",
        null="a return of them is unknown, or that symbol does not move", universe=True,
    ),
)  # fmt: skip

BY_NAME: Final[dict[str, RuleFunction]] = {function.name: function for function in TABLE}
FUNCTIONS: Final = tuple(BY_NAME)
KERNELS: Final[dict[str, Kernel]] = {
    function.name: function.kernel for function in TABLE if function.kernel is not None
}
FOLDED_KERNELS: Final = tuple(KERNELS[function.name] for function in TABLE if function.scalar is not None)
"""Kernels of functions that give a constant for constants."""
