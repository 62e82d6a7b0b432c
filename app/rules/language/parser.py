"""Expression text to a typed tree: recursive descent over the grammar in LANGUAGE.md.

Written by hand rather than generated, because the error messages are the point: each production knows what it
was reading and what a trader most likely meant. Bounded in length, nesting, depth and nodes, so that parsing
any text takes bounded time and stack. `productions.py` has the grammar.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from app.errors import RuleError
from app.rules.language.canonical_text import to_text
from app.rules.language.lexer import fault, tokenize, tokens_and_faults
from app.rules.language.productions import Parser
from app.rules.language.tree import CONDITION_KINDS, ConditionNode, Node, NumberNode
from app.rules.language.walks import children, previous_depth

MAX_DEPTH = 64
MAX_NODES = 500
MAX_PREVIOUS = 8
"""How many minutes back `prev(prev(...))` may reach."""
MOST_FAULTS: Final = 10
"""Most faults found in one text; further ones are not looked for."""


@lru_cache(maxsize=8_192)
def parse_condition(text: str) -> ConditionNode:
    """Return the tree of a condition. Raises RuleError with the position of the first fault.

    Cached, because a rule is parsed when it is made and again whenever its book is compiled. The cache has room for
    all rules there may be, so that a change of one rule costs the parsing of that rule only.
    """
    return _as_condition(_parse(text))


def parse_number(text: str) -> NumberNode:
    """Return the tree of a number, for example the sort key of a screener query. Raises RuleError."""
    return _as_number(_parse(text))


def condition_faults(text: str) -> list[RuleError]:
    """Return the faults of a condition in order of place, at most MOST_FAULTS; empty if it parses."""
    return _faults(text, _as_condition)


def number_faults(text: str) -> list[RuleError]:
    """Return the faults of a number, as `condition_faults` does."""
    return _faults(text, _as_number)


def pointer(text: str, error: RuleError) -> str:
    """Return the fault under the text it is in: message, line, caret."""
    start = text.rfind("\n", 0, error.position) + 1
    end = text.find("\n", error.position)
    line = text[start : end if end >= 0 else len(text)]
    return f"{error}\n  {line}\n  {' ' * (error.position - start)}^"


def _as_condition(node: Node) -> ConditionNode:
    if not isinstance(node, CONDITION_KINDS):
        shown = _shown(node)
        raise fault(f"the expression is a number, not a condition; compare it: `{shown} > 0`", node.position)
    return node


def _as_number(node: Node) -> NumberNode:
    if isinstance(node, CONDITION_KINDS):
        raise fault("the expression is a condition, but a number is needed here", node.position)
    return node


def _parse(text: str) -> Node:
    return _whole(Parser(tokenize(text), most=1))


def _faults(text: str, check: Callable[[Node], Node]) -> list[RuleError]:
    told: list[RuleError] = []
    try:
        tokens, told = tokens_and_faults(text)
        node = _whole(Parser(tokens, MOST_FAULTS, told))
        if not told:
            check(node)
    except RuleError as error:
        if not any(error is known for known in told):
            told.append(error)
    at = {error.position: error for error in reversed(told)}
    return [at[position] for position in sorted(at)][:MOST_FAULTS]


def _whole(parser: Parser) -> Node:
    if parser.token.kind == "end":
        raise fault("the expression is empty", 0)
    node = parser.condition()
    parser.expect_end()
    if not parser.told:
        _check_size(node)
        _check_minutes(node)
    return node


def _check_size(root: Node) -> None:
    """Check the size of the tree, before any recursive function sees it."""
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
    if previous_depth(root) > MAX_PREVIOUS:
        raise fault(f"prev may look back at most {MAX_PREVIOUS} minutes", root.position)


def _shown(node: Node) -> str:
    text = to_text(node)
    return text if len(text) <= 40 else f"{text[:37]}..."
