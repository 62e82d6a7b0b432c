"""Functions over time, as parts of a program: which values are remembered, and the windows over them.

A condition that is remembered is 1, UNKNOWN or 0; for a count, 1, NaN or 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

import numpy as np

from app.candles.batch import BoolArray, FloatArray
from app.market.timeframes import TIMEFRAMES
from app.market.tracks.recursions import Moves
from app.market.tracks.windows import UNKNOWN, Over
from app.rules.evaluation.slots import ProgramStep, RecursionSlot, Slot, TrackSlot, Window
from app.rules.language.canonical_text import to_text
from app.rules.language.functions import BY_NAME, Kernel
from app.rules.language.tree import (
    CONDITION_KINDS,
    BarValue,
    Closes,
    ConditionNode,
    Indicator,
    Lately,
    Node,
    NumberNode,
    OverTime,
)

_BAR: Final = {
    "open": Over.BAR_OPEN,
    "high": Over.BAR_HIGH,
    "low": Over.BAR_LOW,
    "close": Over.BAR_CLOSE,
    "volume": Over.BAR_SUM,
    "quote_volume": Over.BAR_SUM,
}
_PARTS: Final = {
    "hl2": ("high", "low"),
    "hlc3": ("high", "low", "close"),
    "ohlc4": ("open", "high", "low", "close"),
}
_COLUMN: Final = {
    "open": "open_1m",
    "high": "high_1m",
    "low": "low_1m",
    "close": "close_1m",
    "volume": "base_volume_1m",
    "quote_volume": "quote_volume_1m",
}
_WINDOWED: Final = {
    "sma": Over.AVERAGE,
    "stddev": Over.DEVIATION,
    "donchian_high": Over.HIGHEST,
    "donchian_low": Over.LOWEST,
}
_RECURSIVE: Final = {
    "ema": Moves.EMA,
    "rsi": Moves.RSI,
    "atr": Moves.ATR,
    "macd": Moves.MACD,
    "macd_signal": Moves.SIGNAL,
    "adx": Moves.ADX,
    "obv": Moves.OBV,
}


def _kleene(true: BoolArray, false: BoolArray) -> FloatArray:
    return (np.subtract(true, false, dtype=np.float64) + 1.0) * UNKNOWN


def _countable(true: BoolArray, false: BoolArray) -> FloatArray:
    return np.where(true, 1.0, np.where(false, 0.0, math.nan))


def _change(now: FloatArray, before: FloatArray) -> FloatArray:
    """Return the change in percent; 0 where the value before is 0, as in TA-Lib."""
    return np.where(np.equal(before, 0.0) & ~np.isnan(now), 0.0, (now / before - 1.0) * 100.0)


def _share_of_range(above: FloatArray, spread: FloatArray) -> FloatArray:
    """Return the share in percent; 0 where the range is 0, as in TA-Lib."""
    return np.where(np.equal(spread, 0.0), 0.0, above / spread * 100.0)


class TimeParts(ABC):
    """The part of a builder that knows functions over time."""

    slots: list[Slot]
    moments: dict[int, int]
    """Cell that holds whether a row ends a bar -> minutes of the bar."""
    indicators: dict[str, int]
    """Text of an indicator -> the cell of its value."""

    @abstractmethod
    def number(self, node: NumberNode) -> int: ...

    @abstractmethod
    def condition(self, node: ConditionNode, negated: bool = False) -> int: ...

    @abstractmethod
    def steps_for(self, cell: int) -> tuple[ProgramStep, ...]: ...

    @abstractmethod
    def _cell(self, *key: object) -> tuple[int, bool]: ...

    @abstractmethod
    def _step(self, name: str, kernel: Kernel, left: int, right: int = ...) -> int: ...

    @abstractmethod
    def _constant(self, value: float) -> int: ...

    def over_time(self, node: OverTime | Lately) -> int:
        """Return the cell of the value; for a condition, 1, UNKNOWN or 0."""
        function = BY_NAME[node.name].over
        assert function is not None
        operand, unknown = self._operand(node.operand, function)
        coded = "" if math.isnan(unknown) else "kleene "
        text = f"{coded}{to_text(node.operand)}"
        return self._window(text, operand, 1, unknown, function, node.minutes)

    def _operand(self, node: Node, function: Over) -> tuple[int, float]:
        if not isinstance(node, CONDITION_KINDS):
            return self.number(node), math.nan
        true, false = self.condition(node), self.condition(node, negated=True)
        if function is Over.TOTAL:
            return self._step("countable", _countable, true, false), math.nan
        return self._step("kleene", _kleene, true, false), UNKNOWN

    def closes(self, node: Closes) -> int:
        cell, new = self._cell("closes", node.bar_minutes)
        if new:
            self.moments[cell] = node.bar_minutes
        return cell

    def lately_is(self, node: Lately, true: bool) -> int:
        """Return the cell that holds whether the node is certainly true or, if `true` is false, certainly false."""
        cell = self.over_time(node)
        if true:
            return self._step(">", np.greater, cell, self._constant(UNKNOWN))
        return self._step(">", np.greater, self._constant(UNKNOWN), cell)

    def _window(
        self, text: str, operand: int, minutes: int, unknown: float, function: Over, length: int
    ) -> int:
        """minutes: length of one time, 1 or that of a bar. length: how many times."""
        out, new = self._cell("window", operand, minutes, repr(unknown), function, length)
        if new:
            self._track(text, operand, minutes, unknown).windows.append(Window(function, length, out))
        return out

    def _track(self, text: str, operand: int, minutes: int, unknown: float) -> TrackSlot:
        for slot in self.slots:
            if (
                isinstance(slot, TrackSlot)
                and (slot.operand, slot.minutes) == (operand, minutes)
                and repr(slot.unknown) == repr(unknown)
            ):
                return slot
        # the plain text names the memory of the indicator itself
        slot = TrackSlot(f"{text} by {minutes}", operand, self.steps_for(operand), minutes, unknown)
        self.slots.append(slot)
        return slot

    def bar_value(self, node: BarValue) -> int:
        minutes = TIMEFRAMES[node.timeframe]
        if node.source in _PARTS:
            parts = [self._of_bar(source, node, minutes) for source in _PARTS[node.source]]
            return self._step("/", np.divide, self._sum_of(parts), self._constant(float(len(parts))))
        return self._of_bar(node.source, node, minutes)

    def _sum_of(self, cells: Sequence[int]) -> int:
        total = cells[0]
        for cell in cells[1:]:
            total = self._step("+", np.add, total, cell)
        return total

    def _of_bar(self, source: str, node: BarValue, minutes: int) -> int:
        column = next(column for column in node.columns if column.name == _COLUMN[source])
        cell = self.number(column)
        if minutes == 1:
            return cell
        return self._window(to_text(column), cell, 1, math.nan, _BAR[source], minutes)

    def indicator(self, node: Indicator) -> int:
        cell = self._indicator(node)
        self.indicators[to_text(node)] = cell
        return cell

    def _indicator(self, node: Indicator) -> int:
        minutes, inputs = TIMEFRAMES[node.timeframe], [self.number(one) for one in node.inputs]
        if node.name in _RECURSIVE:
            return self._recursion(node, minutes, inputs)
        length = node.lengths[0]

        def window(at: int, function: Over) -> int:
            return self._window(to_text(node.inputs[at]), inputs[at], minutes, math.nan, function, length)

        if node.name in _WINDOWED:
            return window(0, _WINDOWED[node.name])
        if node.name == "roc":
            return self._step("roc", _change, inputs[0], window(0, Over.EARLIER))
        lowest = window(1, Over.LOWEST)
        above = self._step("-", np.subtract, inputs[2], lowest)
        spread = self._step("-", np.subtract, window(0, Over.HIGHEST), lowest)
        return self._step("stoch_k", _share_of_range, above, spread)

    def _recursion(self, node: Indicator, minutes: int, inputs: list[int]) -> int:
        out, new = self._cell("recursion", node.name, node.lengths, minutes, *inputs)
        if new:
            needed = dict.fromkeys(step for cell in inputs for step in self.steps_for(cell))
            # with fewer than three inputs the further operands are not read
            operands = (*inputs, inputs[0], inputs[0])[:3]
            self.slots.append(
                RecursionSlot(
                    to_text(node), _RECURSIVE[node.name], node.lengths, operands, tuple(needed), minutes, out
                )
            )
        return out
