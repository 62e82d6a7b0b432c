"""The productions of the grammar in LANGUAGE.md: recursive descent over the tokens of one text.

A fault that leaves no doubt where the text goes on, such as an unknown name, does not hide those behind it: `Unread`
stands in for the part at fault.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal, cast

from app.errors import RuleError
from app.rules.language.arguments import word_of
from app.rules.language.functions import BY_NAME, FUNCTIONS, Kind, RuleFunction
from app.rules.language.lexer import Token, fault, not_a_number
from app.rules.language.names import nearest, resolve
from app.rules.language.tree import (
    CONDITION_KINDS,
    Argument,
    Arithmetic,
    ArithmeticOperator,
    Column,
    Comparison,
    ComparisonOperator,
    ConditionNode,
    Indicator,
    Logic,
    Negative,
    Node,
    Not,
    Number,
    NumberNode,
)

MAX_NESTING: Final = 32

_Production = Callable[[], Node]
_COMPARISONS: Final = (">", ">=", "<", "<=", "==", "!=")


class Unread(Number):
    """Stands in for a part at fault, be it a number or a condition."""

    __slots__ = ()

    @classmethod
    def at(cls, position: int) -> Unread:
        return cls(math.nan, position)


class Parser:
    """told: the faults, known before or met here. The fault that makes them `most` is raised, and so is a fault after
    which it is unclear where the text goes on. The tree is valid only if there is no fault."""

    def __init__(self, tokens: list[Token], most: int, told: list[RuleError] | None = None) -> None:
        self._tokens = tokens
        self._most = most
        self.told = [] if told is None else told
        self._at = 0
        self._nesting = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._at]

    def _take(self, *texts: str) -> Token | None:
        """Return the current token if it is one of these operators or words, and move on."""
        token = self.token
        if token.kind not in ("symbol", "name") or token.text not in texts:
            return None
        self._at += 1
        return token

    def _tell(self, error: RuleError) -> Unread:
        self.told.append(error)
        if len(self.told) >= self._most:
            raise error
        return Unread.at(error.position)

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
        while again := self._take(*_COMPARISONS):
            self._tell(fault("comparisons do not chain; write `a < b and b < c`", again.position))
            self._sum()
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
                self._tell(fault("division by zero is always null", right.position))
            node = Arithmetic(cast(ArithmeticOperator, found.text), left, right, left.position)
        return node

    def _unary(self) -> Node:
        if found := self._take("-"):
            return Negative(self._as_number(self._nested(self._unary, found), "`-`"), found.position)
        if found := self._take("+"):
            self._tell(fault("remove this `+`", found.position))
            return self._nested(self._unary, found)
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
        if token.kind in ("duration", "word"):
            self._at += 1
            return self._tell(not_a_number(token))
        if token.kind == "name" and token.text not in ("and", "or", "not"):
            self._at += 1
            if opening := self._take("("):
                return self._call(token, opening)
            return self._column(token)
        what = "the end" if token.kind == "end" else f"`{token.text[:40]}`"
        raise fault(f"expected a metric, a number or `(`, found {what}", token.position)

    def _close(self, opening: Token) -> None:
        if self._take(")"):
            return
        if self.token.kind == "end":
            raise fault("this `(` is never closed", opening.position)
        raise fault(f"expected `)` or an operator, found `{self.token.text[:40]}`", self.token.position)

    def _column(self, name: Token) -> Node:
        try:
            return Column(resolve(name.text, name.position), name.text, name.position)
        except RuleError as error:
            return self._tell(error)

    def _call(self, name: Token, opening: Token) -> Node:
        before = len(self.told)
        function = self._function(name)
        if function is None:
            self._skip_arguments()
            self._close(opening)
            return Unread.at(name.position)
        arguments: list[Argument] = []
        if not self._take(")"):
            while True:
                arguments.append(self._argument(function, len(arguments), opening))
                if not self._take(","):
                    break
            self._close(opening)
        if len(self.told) > before:
            return Unread.at(name.position)
        try:
            if not function.accepts(len(arguments)):
                raise fault(f"`{name.text}` takes {function.arity}, {len(arguments)} given", name.position)
            return function.build(name.text, tuple(arguments), name.position)
        except RuleError as error:
            return self._tell(error)

    def _function(self, name: Token) -> RuleFunction | None:
        """Return the function of this name, or the one that was probably meant."""
        if name.text in FUNCTIONS:
            return BY_NAME[name.text]
        guesses = nearest(name.text, FUNCTIONS)
        advice = f"did you mean `{guesses[0]}`?" if guesses else f"known: {', '.join(FUNCTIONS)}"
        self._tell(fault(f"unknown function `{name.text[:40]}`; {advice}", name.position))
        return BY_NAME[guesses[0]] if guesses else None

    def _skip_arguments(self, until: tuple[str, ...] = (")",)) -> None:
        """Go to the next of these symbols that is outside all brackets."""
        depth = 0
        while self.token.kind != "end" and (depth or self.token.text not in until):
            depth += (self.token.text == "(") - (self.token.text == ")")
            self._at += 1

    def _argument(self, function: RuleFunction, place: int, opening: Token) -> Argument:
        kind = function.kind_at(place)
        if kind in (Kind.NUMBER, Kind.CONDITION, None):
            argument = self._nested(self.condition, opening)
            if kind is Kind.CONDITION:
                return self._as_condition(argument, f"`{function.name}`")
            return self._as_number(argument, f"`{function.name}`")
        token = self.token
        self._at += token.kind != "end"
        if kind is Kind.SOURCE and token.kind == "name" and (inner := self._take("(")):
            return self._nested(lambda: self._inner_indicator(token, inner), inner)
        try:
            return word_of(kind, token, function.name)
        except RuleError as error:
            stand_in = self._tell(error)
            self._at -= token.text in (")", ",")
            self._skip_arguments((")", ","))
            return stand_in

    def _inner_indicator(self, name: Token, opening: Token) -> Node:
        node = self._call(name, opening)
        if not isinstance(node, Indicator | Unread):
            return self._tell(fault(f"`{name.text}` is not an indicator", name.position))
        return node

    def _as_number(self, node: Node, what: str) -> NumberNode:
        if isinstance(node, CONDITION_KINDS):
            return self._tell(fault(f"{what} needs a number here, but this is a condition", node.position))
        return node

    def _as_condition(self, node: Node, what: str) -> ConditionNode:
        if isinstance(node, CONDITION_KINDS):
            return node
        if not isinstance(node, Unread):
            node = self._tell(
                fault(f"{what} needs a condition here, but this is a number; compare it", node.position)
            )
        return cast(ConditionNode, node)
