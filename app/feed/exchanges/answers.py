"""Answers of an exchange: reading them, telling their faults apart, and shortening them for messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.errors import ExchangeBlocked, ExchangeError, ExchangeLimited, ExchangeRefused, ExchangeUnreachable
from app.feed.exchanges.exchange import Venue

_UNFIT: Final = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""Errors of reading an answer."""
_MOST_CHARACTERS: Final = 200
_LOOKED_AT_BYTES: Final = 4_096
_NOT_SHOWN: Final = re.compile(
    r"<(?:style|script)\b.*?</(?:style|script)\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL
)
_LIMIT_WORDS: Final = re.compile(
    r"too (?:many|frequent|much)|rate.?limit|limit(?:s)? (?:exceeded|violated|reached)|-1003\b", re.IGNORECASE
)
_PAUSE_S: Final = {429: 10.0, 418: 120.0, 403: 300.0}
"""The pause after too many requests where the answer names none: 418 is Binance's ban after ignored 429s,
403 is Bybit's answer to an address that asks too much."""
_LONGEST_PAUSE_S: Final = 3 * 86_400.0
"""The longest ban that Binance knows."""
BLOCK_PAUSE_S: Final = 300.0
"""Asking more often would not end a block, and might prolong it."""


@contextmanager
def reading_answer(venue: Venue, asked_for: str) -> Iterator[None]:
    """Decode an answer. Raises ExchangeUnreachable if the answer to `asked_for` is unreadable."""
    try:
        yield
    except _UNFIT as error:
        raise ExchangeUnreachable(
            f"the exchange {venue.name}, asked for {asked_for}, sent an invalid answer: {shown(repr(error))}"
        ) from error


def shown(said: bytes | str) -> str:
    """Return at most 200 characters on one line, without control characters and tags; never empty."""
    text = said[:_LOOKED_AT_BYTES]
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    text = _NOT_SHOWN.sub(" ", text)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not text:
        return "(nothing)"
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"


def fault_of(where: str, status: int, said: bytes) -> ExchangeError:
    """Return the error for an answer with a status other than 200."""
    text = f"{where} answers {status}: {shown(said)}"
    words = said[:_LOOKED_AT_BYTES].decode(errors="replace")
    limited = _LIMIT_WORDS.search(words) is not None
    if status in (429, 418) or (limited and 400 <= status < 500):
        return ExchangeLimited(text)
    if status in (401, 403, 407, 451):
        return ExchangeBlocked(text)
    if 400 <= status < 500:
        return ExchangeRefused(text)
    return ExchangeUnreachable(text)


def pause_s(status: int, retry_after: str) -> float:
    """Return the pause after too many requests. retry_after: the header, whole seconds."""
    named = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
    return min(named, _LONGEST_PAUSE_S) if named is not None else _PAUSE_S.get(status, _PAUSE_S[429])


def advice_for(fault: ExchangeError) -> str:
    """Return advice for a person."""
    if isinstance(fault, ExchangeBlocked):
        return (
            "the exchange does not serve this machine's address (country, network or firewall): run where it does, or "
            "set SCREENER_EXCHANGE to another exchange"
        )
    if isinstance(fault, ExchangeLimited):
        return "wait; other programs may use the same address. A restart sends more requests"
    return "check the network and SCREENER_EXCHANGE_REST_URL / _WS_URL"
