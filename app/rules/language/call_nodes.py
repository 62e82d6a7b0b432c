"""The node of the tree that a call becomes, for functions whose calls are not plain `Function` nodes.

A call is checked here for what its arguments say together; each argument alone is of its kind already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from app.rules.language.lexer import fault
from app.rules.language.tree import (
    Argument,
    BarValue,
    Closes,
    Column,
    Crossing,
    Indicator,
    Lately,
    Length,
    Node,
    NumberNode,
    OverTime,
    Previous,
    SourceName,
    Universe,
    Word,
)
from app.rules.language.walks import columns_of, walk

Build = Callable[[str, tuple[Argument, ...], int], Node]
"""(name, arguments of the kinds that the function takes, position) -> the call's node. Raises RuleError."""


def previous(_: str, arguments: tuple[Argument, ...], at: int) -> Node:
    return Previous(cast(NumberNode, arguments[0]), at)


def crossing(name: str, arguments: tuple[Argument, ...], at: int) -> Node:
    left, right = cast(tuple[NumberNode, NumberNode], arguments)
    return Crossing("above" if name == "crosses_above" else "below", left, right, at)


def universe(name: str, arguments: tuple[Argument, ...], at: int) -> Node:
    node = Universe(name, arguments, at)
    if not columns_of(node):
        raise fault("it uses no metric, so it is the same for every symbol", at)
    return node


def over_time(name: str, arguments: tuple[Argument, ...], at: int) -> Node:
    return _changing(OverTime(name, arguments, at))


def lately(name: str, arguments: tuple[Argument, ...], at: int) -> Node:
    return _changing(Lately(name, arguments, at))


def _changing(node: OverTime | Lately) -> Node:
    if columns_of(node) or any(isinstance(found, Closes) for found in walk(node)):
        return node
    raise fault(f"`{node.name}` of something that never changes; name a metric in it", node.position)


_SOURCE_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "open": ("open_1m",),
    "high": ("high_1m",),
    "low": ("low_1m",),
    "close": ("close_1m",),
    "volume": ("base_volume_1m",),
    "quote_volume": ("quote_volume_1m",),
    "hl2": ("high_1m", "low_1m"),
    "hlc3": ("high_1m", "low_1m", "close_1m"),
    "ohlc4": ("open_1m", "high_1m", "low_1m", "close_1m"),
}
SOURCES: Final = tuple(_SOURCE_COLUMNS)
"""Values of a bar."""


def _bar_value(source: str, timeframe: str, at: int) -> BarValue:
    columns = tuple(Column(name, name, at) for name in _SOURCE_COLUMNS[source])
    return BarValue(source, timeframe, columns, at)


def indicator(*sources: str) -> Build:
    """sources: of the bar; none if the first argument is the source."""

    def build(name: str, arguments: tuple[Argument, ...], at: int) -> Node:
        timeframe = cast(Word, arguments[-1]).text
        inputs: tuple[BarValue | Indicator, ...]
        first = arguments[0]
        if isinstance(first, SourceName):
            inputs = (_bar_value(first.text, timeframe, first.position),)
        elif isinstance(first, Indicator):
            if first.timeframe != timeframe:
                raise fault(
                    f"`{first.name}` is of {first.timeframe} bars, not of {timeframe}", first.position
                )
            inputs = (first,)
        else:
            inputs = tuple(_bar_value(source, timeframe, at) for source in sources)
        lengths = [argument for argument in arguments if isinstance(argument, Length)]
        if name.startswith("macd") and lengths[0].bars >= lengths[1].bars:
            raise fault("the first length must be the shorter one", lengths[0].position)
        return Indicator(name, arguments, at, inputs)

    return build
