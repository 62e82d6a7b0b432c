"""Expression text to tokens. Anything outside the language is refused here, with advice where possible."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, Literal

from app.errors import RuleError

MAX_LENGTH = 2_000

Kind = Literal["number", "duration", "word", "name", "symbol", "end"]

_SPACE = re.compile(r"[ \t\r\n]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TAIL = re.compile(r"[A-Za-z0-9_.]*")
_SYMBOL = re.compile(r">=|<=|==|!=|[-+*/()<>,]")
_SUFFIXES = {"k": 1e3, "K": 1e3, "M": 1e6}
MINUTES_OF_UNIT = {"m": 1, "h": 60, "d": 1440}
"""Unit of a duration such as `15m` -> minutes."""
_MISTAKES = {
    "&&": "write `and`",
    "||": "write `or`",
    "&": "write `and`",
    "|": "write `or`",
    "!": "write `not`, or `!=` for unequal",
    "<>": "write `!=`",
    "=": "write `==`",
    "**": "there is no power operator; write `a * a`",
    "//": "write `/`",
    "%": "price changes are already in percent; remove `%`",
    "[": "write `(`",
    "]": "write `)`",
    '"': "the language has no text; select symbols with `symbols` of the rule",
    "'": "the language has no text; select symbols with `symbols` of the rule",
}
_MEANT: Final = {
    "&&": "and",
    "||": "or",
    "&": "and",
    "|": "or",
    "!": "not",
    "<>": "!=",
    "=": "==",
    "**": "*",
    "//": "/",
    "[": "(",
    "]": ")",
}
"""Mistake -> the text that is read in its place when further faults are looked for; other mistakes are skipped."""


@dataclass(frozen=True, slots=True)
class Token:
    """`text` is lower case for operators in words. `value`: the number, or the minutes of a duration. A `word` is no
    number, duration or name: it begins with digits or is of another script than Latin, as symbols may be."""

    kind: Kind
    text: str
    position: int
    value: float = 0.0


def fault(message: str, position: int) -> RuleError:
    """Return a RuleError that says where; positions count from 0, people from 1."""
    return RuleError(f"{message} (at character {position + 1})", position)


def tokenize(text: str) -> list[Token]:
    """Return all tokens, closed by one of kind `end`. Raises RuleError."""
    tokens: list[Token] = []
    for found in _read(text):
        if isinstance(found, RuleError):
            raise found
        tokens.append(found)
    return tokens


def tokens_and_faults(text: str) -> tuple[list[Token], list[RuleError]]:
    """Return the tokens that were probably meant, closed by one of kind `end`, and every fault. Raises RuleError for a
    text that is too long."""
    found = list(_read(text))
    tokens = [one for one in found if isinstance(one, Token)]
    return tokens, [one for one in found if isinstance(one, RuleError)]


def _read(text: str) -> Iterator[Token | RuleError]:
    """Yield tokens and faults; after a fault comes the token that is read in its place, if there is one."""
    if len(text) > MAX_LENGTH:
        raise fault(f"the expression has {len(text)} characters, the limit is {MAX_LENGTH}", MAX_LENGTH)
    position = 0
    while True:
        if space := _SPACE.match(text, position):
            position = space.end()
        if position >= len(text):
            yield Token("end", "the end", len(text))
            return
        try:
            token, position = _next_token(text, position)
            yield token
        except RuleError as error:
            yield error
            meant, position = _meant(text, position)
            if meant is not None:
                yield meant


def _meant(text: str, position: int) -> tuple[Token | None, int]:
    """Return what is read in place of a fault, and where reading goes on."""
    if number := _NUMBER.match(text, position):
        tail = _TAIL.match(text, number.end())
        assert tail is not None
        return Token("number", number.group(), position, 1.0), tail.end()
    length = 2 if text[position : position + 2] in _MEANT else 1
    meant = _MEANT.get(text[position : position + length])
    if meant is None:
        return None, position + length
    return Token("name" if meant.isalpha() else "symbol", meant, position), position + length


def _next_token(text: str, position: int) -> tuple[Token, int]:
    for mistake in ("&&", "||", "<>", "**", "//"):
        if text.startswith(mistake, position):
            raise fault(f"`{mistake}` is not in the language; {_MISTAKES[mistake]}", position)
    if (word := _word_of_any_script(text, position)) and not word.isascii():
        return Token("word", word, position), position + len(word)
    if found := _NAME.match(text, position):
        name = found.group()
        word = name.lower()
        return Token("name", word if word in ("and", "or", "not") else name, position), found.end()
    if found := _NUMBER.match(text, position):
        return _number(text, found)
    if found := _SYMBOL.match(text, position):
        return Token("symbol", found.group(), position), found.end()
    character = text[position]
    advice = _MISTAKES.get(character, "see the grammar in LANGUAGE.md")
    raise fault(f"{character!r} is not in the language; {advice}", position)


def _word_of_any_script(text: str, position: int) -> str:
    """Return the letters, their marks, digits and underscores from here on; empty for a text of ASCII."""
    if text.isascii():
        return ""
    return "".join(takewhile(_is_of_a_word, text[position:]))


def _is_of_a_word(character: str) -> bool:
    return character.isalnum() or character == "_" or unicodedata.category(character) in ("Mn", "Mc")


def not_a_number(token: Token) -> RuleError:
    """Return the fault of a duration or a word where a number should be."""
    if token.kind == "duration" and token.text.endswith("m"):
        number = token.text[:-1]
        advice = f"write `{number}M` or `1_000_000`"
        return fault(f"`{token.text}` could be a million or minutes; {advice}", token.position)
    if not token.text.isascii():
        advice = "a symbol may stand only where a function takes one, as in `of(BTCUSDT, price)`"
        return fault(f"{token.text[:40]!r} is not a field; {advice}", token.position)
    return fault(f"{token.text[:40]!r} is not a number; the suffixes are k and M", token.position)


def _number(text: str, found: re.Match[str]) -> tuple[Token, int]:
    start, end = found.span()
    factor = 1.0
    if tail := _NAME.match(text, end):
        suffix, end = tail.group(), tail.end()
        if suffix in MINUTES_OF_UNIT and found.group().isdecimal():
            minutes = float(found.group()) * MINUTES_OF_UNIT[suffix]
            return Token("duration", text[start:end], start, minutes), end
        if suffix not in _SUFFIXES:
            return Token("word", text[start:end], start), end
        factor = _SUFFIXES[suffix]
    elif text.startswith(".", end):
        raise fault(f"{text[start : end + 1]!r} is not a number; write a digit after the point", start)
    value = float(found.group()) * factor
    if value == float("inf"):
        raise fault(f"{found.group()[:40]} is too large a number", start)
    return Token("number", text[start:end], start, value), end
