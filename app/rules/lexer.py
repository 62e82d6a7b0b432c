"""Expression text to tokens. Anything outside the language is refused here, with advice where possible."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from app.errors import RuleError

MAX_LENGTH = 2_000

Kind = Literal["number", "name", "symbol", "end"]

_SPACE = re.compile(r"[ \t\r\n]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SYMBOL = re.compile(r">=|<=|==|!=|[-+*/()<>,]")
_SUFFIXES = {"k": 1e3, "K": 1e3, "M": 1e6}
_MISTAKES = {
    "&&": "write `and`",
    "||": "write `or`",
    "&": "write `and`",
    "|": "write `or`",
    "!": "write `not`, or `!=` for unequal",
    "<>": "write `!=`",
    "=": "write `==`",
    "**": "there is no power; write `a * a`",
    "//": "write `/`",
    "%": "price changes are in percent already; leave out `%`",
    "[": "write `(`",
    "]": "write `)`",
    '"': "there is no text in the language; the `symbols` of a rule choose symbols",
    "'": "there is no text in the language; the `symbols` of a rule choose symbols",
}


@dataclass(frozen=True, slots=True)
class Token:
    """`text` is lower case for names and operators; `value` is meant for numbers only."""

    kind: Kind
    text: str
    position: int
    value: float = 0.0


def fault(message: str, position: int) -> RuleError:
    """A RuleError that says where; positions count from 0, people from 1."""
    return RuleError(f"{message} (at character {position + 1})", position)


def tokenize(text: str) -> list[Token]:
    """All tokens, closed by one of kind `end`. Raises RuleError."""
    if len(text) > MAX_LENGTH:
        raise fault(f"the expression has {len(text)} characters, the limit is {MAX_LENGTH}", MAX_LENGTH)
    tokens: list[Token] = []
    position = 0
    while True:
        if space := _SPACE.match(text, position):
            position = space.end()
        if position >= len(text):
            return [*tokens, Token("end", "the end", len(text))]
        token, position = _next_token(text, position)
        tokens.append(token)


def _next_token(text: str, position: int) -> tuple[Token, int]:
    for mistake in ("&&", "||", "<>", "**", "//"):
        if text.startswith(mistake, position):
            raise fault(f"`{mistake}` is not in the language; {_MISTAKES[mistake]}", position)
    if found := _NAME.match(text, position):
        name = found.group()
        word = name.lower()
        return Token("name", word if word in ("and", "or", "not") else name, position), found.end()
    if found := _NUMBER.match(text, position):
        return _number(text, found)
    if found := _SYMBOL.match(text, position):
        return Token("symbol", found.group(), position), found.end()
    character = text[position]
    advice = _MISTAKES.get(character, "see the language's grammar")
    raise fault(f"{character!r} is not in the language; {advice}", position)


def _number(text: str, found: re.Match[str]) -> tuple[Token, int]:
    start, end = found.span()
    factor = 1.0
    if tail := _NAME.match(text, end):
        suffix = tail.group()
        if suffix == "m":
            number = found.group()
            raise fault(f"`{number}m` could be a million or minutes; write `{number}M` or `1_000_000`", start)
        if suffix not in _SUFFIXES:
            raise fault(f"{text[start : tail.end()][:40]!r} is not a number; the suffixes are k and M", start)
        factor, end = _SUFFIXES[suffix], tail.end()
    elif text.startswith(".", end):
        raise fault(f"{text[start : end + 1]!r} is not a number; write a digit after the point", start)
    value = float(found.group()) * factor
    if value == float("inf"):
        raise fault(f"{found.group()[:40]} is too large a number", start)
    return Token("number", text[start:end], start, value), end
