"""The typed tree of an expression. Numbers and conditions are different kinds; the parser keeps them apart.

`position` is the 0-based offset in the source text; it takes no part in equality, so two nodes that mean the
same are equal and hash alike wherever they were written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

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
class Function:
    """abs (one argument), min and max (two or more); null if any argument is."""

    name: Literal["abs", "min", "max"]
    arguments: tuple[NumberNode, ...]
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Previous:
    """The operand's value at the closed minute before; null if that minute was not evaluated."""

    operand: NumberNode
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Universe:
    """rank (1 = largest) or mean over all symbols of a screener query; nulls take no part."""

    name: Literal["rank", "mean"]
    operand: NumberNode
    position: int = field(default=0, compare=False)


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
        """What was true before, and what is true now."""
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


NumberNode = Number | Column | Arithmetic | Negative | Function | Previous | Universe
ConditionNode = Comparison | Crossing | Logic | Not
Node = NumberNode | ConditionNode

CONDITION_KINDS = (Comparison, Crossing, Logic, Not)


def children(node: Node) -> tuple[Node, ...]:
    match node:
        case Number() | Column():
            return ()
        case Negative() | Previous() | Universe() | Not():
            return (node.operand,)
        case Function():
            return node.arguments
        case Logic():
            return node.operands
        case _:
            return (node.left, node.right)


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def columns_of(node: Node) -> tuple[str, ...]:
    """The metric columns that the expression reads, each once, in the order written."""
    return tuple(dict.fromkeys(found.name for found in walk(node) if isinstance(found, Column)))


def uses_previous(node: Node) -> bool:
    return any(isinstance(found, Previous | Crossing) for found in walk(node))


def previous_depth(node: Node) -> int:
    """How many minutes before the current one the expression looks at."""
    below = max((previous_depth(child) for child in children(node)), default=0)
    return below + isinstance(node, Previous | Crossing)


def _number_text(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def to_text(node: Node) -> str:
    """The canonical spelling: equal trees give equal text, and it parses to an equal tree."""
    match node:
        case Number():
            return _number_text(node.value)
        case Column():
            return node.name
        case Negative():
            return f"-{_within(node.operand)}"
        case Not():
            return f"not {_within(node.operand)}"
        case Logic():
            return f" {node.operator} ".join(_within(operand) for operand in node.operands)
        case Comparison():
            return f"{to_text(node.left)} {node.operator} {to_text(node.right)}"
        case Arithmetic():
            return f"{_within(node.left)} {node.operator} {_within(node.right)}"
        case _:
            return f"{_function_name(node)}({', '.join(to_text(child) for child in children(node))})"


def _function_name(node: Function | Previous | Universe | Crossing) -> str:
    match node:
        case Previous():
            return "prev"
        case Crossing():
            return f"crosses_{node.direction}"
        case _:
            return node.name


def _within(node: Node) -> str:
    text = to_text(node)
    return f"({text})" if isinstance(node, Arithmetic | Logic | Negative) else text
