"""Expression text to a typed tree: recursive descent over the grammar in LANGUAGE.md.

Written by hand rather than generated, because the error messages are the point: each production knows what it
was reading and what a trader most likely meant. Bounded in length, nesting, depth and nodes, so that parsing
any text takes bounded time and stack.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, cast

from app.errors import RuleError
from app.rules.lexer import Token, fault, tokenize
from app.rules.names import FUNCTIONS, UNIVERSE_FUNCTIONS, nearest, resolve
from app.rules.tree import (
    CONDITION_KINDS,
    Arithmetic,
    ArithmeticOperator,
    Column,
    Comparison,
    ComparisonOperator,
    ConditionNode,
    Crossing,
    Function,
    Logic,
    Negative,
    Node,
    Not,
    Number,
    NumberNode,
    Previous,
    Universe,
    children,
    columns_of,
    previous_depth,
    to_text,
)

MAX_NESTING = 32
MAX_DEPTH = 64
MAX_NODES = 500
MAX_PREVIOUS = 8
"""How many minutes back `prev(prev(...))` may reach."""

_Production = Callable[[], Node]
_COMPARISONS = (">", ">=", "<", "<=", "==", "!=")


def parse_condition(text: str, universe: bool = False) -> ConditionNode:
    """The tree of a condition. `universe` allows rank and mean, as in screener queries.

    Raises RuleError with the position of the first fault.
    """
    return _condition(text, universe) if universe else _rule_condition(text)


@lru_cache(maxsize=8_192)
def _rule_condition(text: str) -> ConditionNode:
    """Remembered, because a rule is parsed when it is made and again whenever its book is compiled: all rules
    there may be, so that a change of one costs no more than that one."""
    return _condition(text, universe=False)


def _condition(text: str, universe: bool) -> ConditionNode:
    node = _parse(text, universe)
    if not isinstance(node, CONDITION_KINDS):
        shown = _shown(node)
        raise fault(f"the expression is a number, not a condition; compare it: `{shown} > 0`", node.position)
    return node


def parse_number(text: str, universe: bool = False) -> NumberNode:
    """The tree of a number, such as what a screener query is sorted by. Raises RuleError."""
    node = _parse(text, universe)
    if isinstance(node, CONDITION_KINDS):
        raise fault("the expression is a condition, a number is needed here", node.position)
    return node


def pointer(text: str, error: RuleError) -> str:
    """The fault under the text it is in: message, line, caret."""
    start = text.rfind("\n", 0, error.position) + 1
    end = text.find("\n", error.position)
    line = text[start : end if end >= 0 else len(text)]
    return f"{error}\n  {line}\n  {' ' * (error.position - start)}^"


def _parse(text: str, universe: bool) -> Node:
    parser = _Parser(tokenize(text), universe)
    if parser.token.kind == "end":
        raise fault("the expression is empty", 0)
    node = parser.condition()
    parser.expect_end()
    _check_size(node)
    _check_minutes(node)
    return node


def _check_size(root: Node) -> None:
    """Before anything recursive looks at the tree."""
    nodes = 0
    waiting = [(root, 1)]
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if depth > MAX_DEPTH:
            raise fault(f"the expression is more than {MAX_DEPTH} levels deep", node.position)
        if nodes > MAX_NODES:
            raise fault(f"the expression has more than {MAX_NODES} parts", node.position)
        waiting += [(child, depth + 1) for child in children(node)]


def _check_minutes(root: Node) -> None:
    waiting: list[tuple[Node, bool]] = [(root, False)]
    while waiting:
        node, in_universe = waiting.pop()
        if isinstance(node, Previous | Crossing | Universe) and not columns_of(node):
            raise fault("it looks at no metric, so it never changes", node.position)
        if in_universe and isinstance(node, Previous):
            raise fault("prev inside rank or mean is not possible; write prev(rank(...))", node.position)
        inside = in_universe or isinstance(node, Universe)
        waiting += [(child, inside) for child in children(node)]
    if previous_depth(root) > MAX_PREVIOUS:
        raise fault(f"prev may look back {MAX_PREVIOUS} minutes at most", root.position)


def _shown(node: Node) -> str:
    text = to_text(node)
    return text if len(text) <= 40 else f"{text[:37]}..."


class _Parser:
    def __init__(self, tokens: list[Token], universe: bool) -> None:
        self._tokens = tokens
        self._at = 0
        self._nesting = 0
        self._universe = universe

    @property
    def token(self) -> Token:
        return self._tokens[self._at]

    def _take(self, *texts: str) -> Token | None:
        """The current token if it is one of these operators or words, and move on."""
        token = self.token
        if token.kind not in ("symbol", "name") or token.text not in texts:
            return None
        self._at += 1
        return token

    def expect_end(self) -> None:
        token = self.token
        if token.kind == "end":
            return
        if token.text == ")":
            raise fault("there is no `(` for this `)`", token.position)
        raise fault(f"expected `and`, `or` or the end, found `{token.text[:40]}`", token.position)

    def condition(self) -> Node:
        return self._logic("or")

    def _logic(self, operator: Literal["and", "or"]) -> Node:
        first = self._not() if operator == "and" else self._logic("and")
        operands: list[ConditionNode] = []
        while found := self._take(operator):
            if not operands:
                operands.append(self._as_condition(first, f"`{operator}`"))
            operand = self._not() if operator == "and" else self._logic("and")
            operands.append(self._as_condition(operand, f"`{found.text}`"))
        return Logic(operator, tuple(operands), first.position) if operands else first

    def _not(self) -> Node:
        if found := self._take("not"):
            with_nesting = self._nested(self._not, found)
            return Not(self._as_condition(with_nesting, "`not`"), found.position)
        return self._comparison()

    def _comparison(self) -> Node:
        left = self._sum()
        found = self._take(*_COMPARISONS)
        if not found:
            return left
        what = f"`{found.text}`"
        node = Comparison(
            cast(ComparisonOperator, found.text),
            self._as_number(left, what),
            self._as_number(self._sum(), what),
            left.position,
        )
        if again := self._take(*_COMPARISONS):
            raise fault("comparisons do not chain; write `a < b and b < c`", again.position)
        return node

    def _sum(self) -> Node:
        return self._chain(("+", "-"), self._product)

    def _product(self) -> Node:
        return self._chain(("*", "/"), self._unary)

    def _chain(self, operators: tuple[str, ...], operand: _Production) -> Node:
        node = operand()
        while found := self._take(*operators):
            what = f"`{found.text}`"
            left = self._as_number(node, what)
            right = self._as_number(operand(), what)
            if found.text == "/" and isinstance(right, Number) and right.value == 0:
                raise fault("division by zero is always null", right.position)
            node = Arithmetic(cast(ArithmeticOperator, found.text), left, right, left.position)
        return node

    def _unary(self) -> Node:
        if found := self._take("-"):
            return Negative(self._as_number(self._nested(self._unary, found), "`-`"), found.position)
        if found := self._take("+"):
            raise fault("leave out this `+`", found.position)
        return self._primary()

    def _nested(self, production: _Production, opening: Token) -> Node:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise fault(f"more than {MAX_NESTING} levels of nesting", opening.position)
        node = production()
        self._nesting -= 1
        return node

    def _primary(self) -> Node:
        token = self.token
        if opening := self._take("("):
            node = self._nested(self.condition, opening)
            self._close(opening)
            return node
        if token.kind == "number":
            self._at += 1
            return Number(token.value, token.position)
        if token.kind == "name" and token.text not in ("and", "or", "not"):
            self._at += 1
            if opening := self._take("("):
                return self._call(token, opening)
            return Column(resolve(token.text, token.position), token.text, token.position)
        what = "the end" if token.kind == "end" else f"`{token.text[:40]}`"
        raise fault(f"expected a metric, a number or `(`, found {what}", token.position)

    def _close(self, opening: Token) -> None:
        if self._take(")"):
            return
        if self.token.kind == "end":
            raise fault("this `(` is never closed", opening.position)
        raise fault(f"expected `)` or an operator, found `{self.token.text[:40]}`", self.token.position)

    def _call(self, name: Token, opening: Token) -> Node:
        known = FUNCTIONS + UNIVERSE_FUNCTIONS
        if name.text not in known:
            guesses = nearest(name.text, known)
            advice = f"did you mean `{guesses[0]}`?" if guesses else f"there are {', '.join(known)}"
            raise fault(f"there is no function `{name.text[:40]}`; {advice}", name.position)
        if name.text in UNIVERSE_FUNCTIONS and not self._universe:
            why = "looks at all symbols at once: it works in screener queries, not in rules"
            raise fault(f"`{name.text}` {why}", name.position)
        arguments: list[NumberNode] = []
        if not self._take(")"):
            while True:
                argument = self._nested(self.condition, opening)
                arguments.append(self._as_number(argument, f"`{name.text}`"))
                if not self._take(","):
                    break
            self._close(opening)
        return _call_node(name, tuple(arguments))

    def _as_number(self, node: Node, what: str) -> NumberNode:
        if isinstance(node, CONDITION_KINDS):
            raise fault(f"{what} needs a number here, this is a condition", node.position)
        return node

    def _as_condition(self, node: Node, what: str) -> ConditionNode:
        if not isinstance(node, CONDITION_KINDS):
            raise fault(f"{what} needs a condition here, this is a number; compare it", node.position)
        return node


def _call_node(name: Token, arguments: tuple[NumberNode, ...]) -> Node:
    at = name.position
    given = len(arguments)
    if name.text in ("min", "max"):
        if given < 2:
            raise fault(f"`{name.text}` takes two or more arguments, {given} given", at)
        return Function(cast(Literal["min", "max"], name.text), arguments, at)
    takes = 2 if name.text.startswith("crosses_") else 1
    if given != takes:
        raise fault(f"`{name.text}` takes {takes} argument{'s' * (takes > 1)}, {given} given", at)
    match name.text:
        case "crosses_above":
            return Crossing("above", arguments[0], arguments[1], at)
        case "crosses_below":
            return Crossing("below", arguments[0], arguments[1], at)
        case "prev":
            return Previous(arguments[0], at)
        case "abs":
            return Function("abs", arguments, at)
        case _:
            return Universe(cast(Literal["rank", "mean"], name.text), arguments[0], at)
