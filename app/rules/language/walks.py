"""Questions about a tree: the metrics that it reads, its inputs, and how far it looks back."""

from __future__ import annotations

from collections.abc import Iterator

from app.rules.language.tree import (
    BarValue,
    Call,
    Closes,
    Column,
    Crossing,
    Indicator,
    Lately,
    Logic,
    Negative,
    Node,
    Not,
    Number,
    OverTime,
    Previous,
    Universe,
)


def children(node: Node) -> tuple[Node, ...]:
    match node:
        case Number() | Column():
            return ()
        case Negative() | Previous() | Not():
            return (node.operand,)
        case Call():
            return node.operands
        case BarValue():
            return node.columns
        case Logic():
            return node.operands
        case _:
            return (node.left, node.right)


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and everything below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def columns_of(node: Node) -> tuple[str, ...]:
    """Return the metric columns that the expression reads, each once, in the order written."""
    return tuple(dict.fromkeys(found.name for found in walk(node) if isinstance(found, Column)))


Look = Column | Universe | Previous | OverTime | Lately | Closes | Indicator
"""An input of an expression: what its other parts are computed from."""


def looks_of(node: Node) -> tuple[Look, ...]:
    """Return the inputs of the expression, each once: columns of the current minute, and values of other minutes, of
    bars and over all symbols. Equal ones have equal `to_text`."""
    return tuple(dict.fromkeys(_looks(node)))


def _looks(node: Node) -> Iterator[Look]:
    if isinstance(node, Column | Universe | OverTime | Lately | Closes | Indicator) or (
        isinstance(node, Previous) and columns_of(node)
    ):
        yield node
        return
    for part in (
        node.parts() if isinstance(node, Crossing) else () if isinstance(node, Previous) else children(node)
    ):
        yield from _looks(part)


def uses_previous(node: Node) -> bool:
    return any(isinstance(found, Previous | Crossing) for found in walk(node))


def uses_time(node: Node) -> bool:
    """Return whether it has functions over time, which need more than the minutes that `prev` looks at."""
    return any(isinstance(found, OverTime | Lately | Indicator | Closes) for found in walk(node))


def minutes_back(node: Node) -> int:
    """Return how many minutes before the current one its functions over time look at, apart from bars."""
    below = max((minutes_back(child) for child in children(node)), default=0)
    match node:
        case OverTime() | Lately():
            return below + node.minutes
        case Previous() | Crossing():
            return below + 1
        case _:
            return below


def uses_market(node: Node) -> bool:
    """Return whether it looks at all symbols."""
    return any(isinstance(found, Universe) for found in walk(node))


def previous_depth(node: Node) -> int:
    """Return how many minutes before the current one the expression looks at."""
    below = max((previous_depth(child) for child in children(node)), default=0)
    return below + isinstance(node, Previous | Crossing)
