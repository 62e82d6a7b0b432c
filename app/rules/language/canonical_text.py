"""The canonical text of a tree: equal trees have equal texts."""

from __future__ import annotations

from app.number_text import plain_digits
from app.rules.language.tree import (
    Argument,
    Arithmetic,
    BarValue,
    Call,
    Column,
    Comparison,
    Crossing,
    Logic,
    Negative,
    Node,
    Not,
    Number,
    Previous,
    Word,
)
from app.rules.language.walks import children

_PLAIN_FROM, _PLAIN_BELOW = 1e-12, 1e21
"""Beyond these a number without an exponent is too long to read."""


def _number_text(value: float) -> str:
    return plain_digits(value) if value == 0 or _PLAIN_FROM <= abs(value) < _PLAIN_BELOW else repr(value)


def to_text(node: Node) -> str:
    """Return the canonical spelling: equal trees give equal text, and it parses to an equal tree, unless
    its parentheses are beyond the bounds of nesting."""
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
        case BarValue():
            return f"{node.source} of the bar of {node.timeframe}"
        case Call():
            return f"{node.name}({', '.join(_argument_text(argument) for argument in node.arguments)})"
        case _:
            return f"{_function_name(node)}({', '.join(to_text(child) for child in children(node))})"


def _argument_text(argument: Argument) -> str:
    return argument.text if isinstance(argument, Word) else to_text(argument)


def _function_name(node: Previous | Crossing) -> str:
    return "prev" if isinstance(node, Previous) else f"crosses_{node.direction}"


def _within(node: Node) -> str:
    text = to_text(node)
    return f"({text})" if isinstance(node, Arithmetic | Logic | Negative) else text
