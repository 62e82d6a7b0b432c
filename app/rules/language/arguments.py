"""The arguments of a call that are neither numbers nor conditions: one token each, read by kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from app.candles.symbols import is_symbol
from app.market.timeframes import TIMEFRAMES
from app.rules.language.call_nodes import SOURCES
from app.rules.language.functions import Kind
from app.rules.language.lexer import MINUTES_OF_UNIT, Token, fault
from app.rules.language.names import nearest
from app.rules.language.tree import Duration, Length, SourceName, SymbolName, TimeframeName, Word

MAX_DURATION_MINUTES: Final = 1440
MAX_BARS: Final = 200


def word_of(kind: Kind, token: Token, function: str) -> Word:
    """Return the argument that a token gives. Raises RuleError that says what belongs there."""
    return _READERS[kind](token, function)


def duration_text(minutes: int) -> str:
    """Return the canonical spelling, in the largest unit that divides it."""
    unit, length = next(
        (unit, length) for unit, length in reversed(MINUTES_OF_UNIT.items()) if minutes % length == 0
    )
    return f"{minutes // length}{unit}"


def _needs(kind: Kind, token: Token, function: str, advice: str = "") -> Exception:
    found = "the end" if token.kind == "end" else f"`{token.text[:40]}`"
    return fault(f"`{function}` needs {kind.value} here{advice}, found {found}", token.position)


def _duration(token: Token, function: str) -> Word:
    if token.kind != "duration":
        raise _needs(Kind.DURATION, token, function)
    if not 1 <= token.value <= MAX_DURATION_MINUTES:
        raise fault(f"`{token.text[:40]}` is not from 1m to 1d", token.position)
    minutes = int(token.value)
    return Duration(duration_text(minutes), token.position, minutes)


def _timeframe(token: Token, function: str) -> Word:
    if token.text not in TIMEFRAMES:
        raise _needs(Kind.TIMEFRAME, token, function, f" ({', '.join(TIMEFRAMES)})")
    return TimeframeName(token.text, token.position)


def _length(token: Token, function: str) -> Word:
    if token.kind != "number" or token.value != int(token.value) or not 1 <= token.value <= MAX_BARS:
        raise _needs(Kind.LENGTH, token, function, f" (a whole number from 1 to {MAX_BARS})")
    bars = int(token.value)
    return Length(str(bars), token.position, bars)


def _source(token: Token, function: str) -> Word:
    if token.text not in SOURCES:
        guesses = nearest(token.text, SOURCES)
        advice = f"; did you mean `{guesses[0]}`?" if guesses else f" ({', '.join(SOURCES)})"
        raise _needs(Kind.SOURCE, token, function, advice)
    return SourceName(token.text, token.position)


def _symbol(token: Token, function: str) -> Word:
    if token.kind not in ("name", "word") or not is_symbol(token.text):
        raise _needs(Kind.SYMBOL, token, function)
    return SymbolName(token.text, token.position)


_READERS: Final[dict[Kind, Callable[[Token, str], Word]]] = {
    Kind.DURATION: _duration,
    Kind.TIMEFRAME: _timeframe,
    Kind.LENGTH: _length,
    Kind.SOURCE: _source,
    Kind.SYMBOL: _symbol,
}
