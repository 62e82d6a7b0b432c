"""Symbols: the one check for candles, frames, rules, requests and files."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

SYMBOL_MAX_CHARS: Final = 32
SYMBOL_RULE: Final = (
    "1 to 32 letters and digits of any script, Latin letters in capitals, with _ and - after the first"
)
"""The rule in words, for messages that reject a symbol."""

_ASCII: Final = re.compile(r"[A-Z0-9][A-Z0-9_\-]*", re.ASCII)
_CCXT: Final = re.compile(r"(?P<base>[^/:]+)/(?P<quote>[^/:\-]+)(:(?P<settle>[^/:\-]+)(-(?P<date>\d{6}))?)?")
_CAPITALS: Final = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
QUOTES: Final = (
    "USDT",
    "USDC",
    "USD1",
    "FDUSD",
    "TUSD",
    "BUSD",
    "USD",
    "DAI",
    "EUR",
    "TRY",
    "BTC",
    "ETH",
    "BNB",
)
_JOINED: Final = re.compile(
    rf"(?P<base>[^\-_]+)(?P<mark>[\-_])(?P<quote>{'|'.join(QUOTES)})((?P=mark)(SWAP|PERP))?"
)


def is_symbol(value: object) -> bool:
    """Return whether this is text that may name a market: it becomes a NATS subject's token, a key, a part of URLs and
    files.

    It is exactly the text that the exchange lists, not normalised: requests to the exchange use it too. Letters and
    digits of any script, marks that follow them, `_` and `-`. Not: small Latin letters, spaces, dots, wildcards,
    controls, invisible and unassigned characters.
    """
    return isinstance(value, str) and 0 < len(value) <= SYMBOL_MAX_CHARS and _is_symbol(value)


def are_symbols(texts: Sequence[str]) -> bool:
    """Return whether each text is a symbol. Every reader of every frame asks this, so the answers are cached."""
    return max(map(len, texts), default=0) <= SYMBOL_MAX_CHARS and all(map(_is_symbol, texts))


@lru_cache(maxsize=20_000)
def _is_symbol(text: str) -> bool:
    if text.isascii():
        return _ASCII.fullmatch(text) is not None
    if not _is_letter_or_digit(text[0]):
        return False
    return all(
        _is_letter_or_digit(one) or one in "_-" or unicodedata.category(one) in ("Mn", "Mc") for one in text
    )


def _is_letter_or_digit(one: str) -> bool:
    if "a" <= one <= "z":
        return False
    category = unicodedata.category(one)
    return category[0] == "L" or category == "Nd"


@lru_cache(maxsize=20_000)
def plain_symbol(text: str) -> str | None:
    """Return the symbol that a candle carries, as exchanges name their contracts; None if the text cannot name one.

    A contract settled in another currency than its quote (BTC/USD:BTC) is BTCUSD_PERP, a contract with an end
    (BTC/USDT:USDT-240628) BTCUSDT_240628. A text that is a symbol already keeps its marks unless a known quote
    currency follows them.
    """
    name = text.strip().translate(_CAPITALS).removesuffix(".P")
    if ccxt := _CCXT.fullmatch(name):
        base, quote, settle, date = ccxt["base"], ccxt["quote"], ccxt["settle"], ccxt["date"]
        end = f"_{date}" if date else "" if settle in (None, quote) else "_PERP"
        name = f"{base}{quote}{end}"
    elif joined := _JOINED.fullmatch(name):
        name = joined["base"] + joined["quote"]
    return name if is_symbol(name) else None
