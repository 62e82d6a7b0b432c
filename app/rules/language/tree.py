"""The typed tree of an expression. Numbers and conditions are different kinds; the parser keeps them apart.

`position` is the 0-based offset in the source text; it takes no part in equality, so two nodes that mean the
same are equal and hash alike wherever they were written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, Union, cast

from app.market.comovement import RETURN_COLUMN
from app.market.timeframes import TIMEFRAMES

ArithmeticOperator = Literal["+", "-", "*", "/"]
ComparisonOperator = Literal[">", ">=", "<", "<=", "==", "!="]


@dataclass(frozen=True, slots=True)
class Number:
    value: float
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Column:
    """`name` is the metric column; `written` the name used in the text, which may be an alias."""

    name: str
    written: str = field(compare=False)
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    operator: ArithmeticOperator
    left: NumberNode
    right: NumberNode
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Negative:
    operand: NumberNode
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Word:
    """An argument of a call that is neither a number nor a condition. `text` is its canonical spelling."""

    text: str
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Duration(Word):
    """At least one minute."""

    minutes: int = 1


@dataclass(frozen=True, slots=True)
class TimeframeName(Word):
    """One of `app.market.timeframes`."""


@dataclass(frozen=True, slots=True)
class Length(Word):
    """A number of bars."""

    bars: int = 1


@dataclass(frozen=True, slots=True)
class SourceName(Word):
    """A value of a bar, such as its close."""


@dataclass(frozen=True, slots=True)
class SymbolName(Word):
    """One symbol of the market."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function of the table (`functions.py`); what it means depends on the class of the node."""

    name: str
    arguments: tuple[Argument, ...]
    position: int = field(default=0, compare=False)

    @property
    def operands(self) -> tuple[Node, ...]:
        """The arguments that are numbers or conditions."""
        return tuple(argument for argument in self.arguments if not isinstance(argument, Word))


@dataclass(frozen=True, slots=True)
class Function(Call):
    """A function of numbers alone; null if any argument is."""

    @property
    def numbers(self) -> tuple[NumberNode, ...]:
        return cast(tuple[NumberNode, ...], self.arguments)


@dataclass(frozen=True, slots=True)
class OfMinutes(Call):
    """A function of the last minutes of its first argument."""

    @property
    def operand(self) -> Node:
        return self.operands[0]

    @property
    def minutes(self) -> int:
        """The minutes of the last argument if it is a duration, else MOST_MINUTES."""
        last = self.arguments[-1]
        return last.minutes if isinstance(last, Duration) else MOST_MINUTES


@dataclass(frozen=True, slots=True)
class OverTime(OfMinutes):
    """A number made of the last minutes of a number or a condition."""


@dataclass(frozen=True, slots=True)
class Lately(OfMinutes):
    """Whether a condition was true in any, or in all, of the last minutes."""


@dataclass(frozen=True, slots=True)
class Closes(Call):
    """Whether a clock-aligned bar ends with this closed minute."""

    @property
    def bar_minutes(self) -> int:
        return TIMEFRAMES[cast(Word, self.arguments[0]).text]


@dataclass(frozen=True, slots=True)
class BarValue:
    """A value of the clock-aligned bar so far, made of these columns of its minutes; null if one of them is unknown."""

    source: str
    timeframe: str
    columns: tuple[Column, ...]
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Indicator(Call):
    """An indicator on clock-aligned bars. inputs: its source, or the values of the bar that it is made of."""

    inputs: tuple[BarValue | Indicator, ...] = ()

    @property
    def operands(self) -> tuple[Node, ...]:
        return self.inputs

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(argument.bars for argument in self.arguments if isinstance(argument, Length))

    @property
    def timeframe(self) -> str:
        return cast(Word, self.arguments[-1]).text


@dataclass(frozen=True, slots=True)
class Previous:
    """The operand's value at the closed minute before; null if that minute was not evaluated. A constant is the same
    in every minute."""

    operand: NumberNode
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Universe(Call):
    """A function over all symbols at one minute; nulls take no part."""


@dataclass(frozen=True, slots=True)
class WithReference(Universe):
    """A function of the 1-minute returns of a symbol and of the reference: (symbol, duration)."""

    @property
    def operands(self) -> tuple[Column, ...]:
        return (Column(RETURN_COLUMN, RETURN_COLUMN, self.position),)

    @property
    def reference(self) -> str:
        return cast(SymbolName, self.arguments[0]).text

    @property
    def minutes(self) -> int:
        return cast(Duration, self.arguments[1]).minutes


@dataclass(frozen=True, slots=True)
class Comparison:
    operator: ComparisonOperator
    left: NumberNode
    right: NumberNode
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Crossing:
    """above: prev(left) <= prev(right) and left > right. below: the mirror image."""

    direction: Literal["above", "below"]
    left: NumberNode
    right: NumberNode
    position: int = field(default=0, compare=False)

    def parts(self) -> tuple[Comparison, Comparison]:
        """Return the condition before and the condition now."""
        before: ComparisonOperator = "<=" if self.direction == "above" else ">="
        now: ComparisonOperator = ">" if self.direction == "above" else "<"
        at = self.position
        return (
            Comparison(before, Previous(self.left, at), Previous(self.right, at), at),
            Comparison(now, self.left, self.right, at),
        )


@dataclass(frozen=True, slots=True)
class Logic:
    """`and` or `or` of two or more conditions, in the order written."""

    operator: Literal["and", "or"]
    operands: tuple[ConditionNode, ...]
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    operand: ConditionNode
    position: int = field(default=0, compare=False)


Argument = Union["NumberNode", "ConditionNode", Word]
NumberNode = (
    Number | Column | Arithmetic | Negative | Function | Previous | Universe | OverTime | BarValue | Indicator
)
ConditionNode = Comparison | Crossing | Logic | Not | Lately | Closes
Node = NumberNode | ConditionNode

CONDITION_KINDS = (Comparison, Crossing, Logic, Not, Lately, Closes)

MOST_MINUTES: Final = 1440
"""Most minutes that a function looks back over."""
