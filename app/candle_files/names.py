"""The name of a candle file: its market, and whether its candles are minutes of trades.

Exchange archives are named BTCUSDT-1m-2024-01.zip, freqtrade's files BTC_USDT_USDT-1m-futures.feather.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from app.candles.symbols import QUOTES, plain_symbol

_NAME: Final = re.compile(r"(?P<market>.+?)-(?P<interval>\d+(mo|[smhdwMy]))(-(?P<rest>.*))?")
_FREQTRADE: Final = re.compile(r"(?P<base>[^_]+)_(?P<quote>[^_\d]+)_(?P<settle>[^_\d]+)")
_WITH_QUOTE: Final = re.compile(rf".+({'|'.join(QUOTES)})", re.IGNORECASE)
_OTHER_PRICES: Final = ("mark", "index", "premiumIndex", "funding_rate")
"""Kinds of candles of freqtrade that are not of trades."""


@dataclass(frozen=True, slots=True)
class NamedMarket:
    """The meaning of a file name. market: a spelling that `plain_symbol` reads, None if the name gives no market.
    refused: why a file of this name has no candles of minutes; None if it may have some."""

    market: str | None
    refused: str | None = None


def market_of(file_name: str) -> NamedMarket:
    """Return the market in the name. A name without an interval names a market only if it ends with a known quote."""
    stem = file_name.partition(".")[0]
    named = _NAME.fullmatch(stem)
    if named is None:
        spelled = _spelled(stem) if _WITH_QUOTE.fullmatch(stem) else None
        return NamedMarket(spelled)
    refused = None
    if named["interval"] != "1m":
        refused = f"candles of {named['interval']}, not of one minute"
    elif named["rest"] in _OTHER_PRICES:
        refused = f"candles of {named['rest']}, not of trades"
    return NamedMarket(_spelled(named["market"]), refused)


def _spelled(market: str) -> str | None:
    if found := _FREQTRADE.fullmatch(market):
        market = f"{found['base']}/{found['quote']}:{found['settle']}"
    return market if plain_symbol(market) else None
