"""Departed symbols: no stage keeps state of a symbol without candles for a day of market time.

Market time is the newest open time of a shard, so a replay forgets as the live market does, and a market that stands
still forgets no symbol.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from app.candles.batch import MINUTE_MS
from app.candles.intervals import DAY_MS

_LOOK_EVERY_MS: Final = 60 * MINUTE_MS


class Departures:
    """When each symbol of one shard last had a candle."""

    def __init__(self) -> None:
        self._heard_ms: dict[str, int] = {}
        self._market_ms = 0
        self._look_ms = 0
        self._silent: set[str] = set()

    def note(self, symbols: Iterable[str], newest_ms: int) -> list[str]:
        """Note a frame; forget and return the symbols that have left. newest_ms: the frame's newest open time. A
        symbol has left only if it is still silent at a second look, an hour of market time later: after a pause of
        the whole market symbols come back one frame after the other."""
        self._market_ms = max(self._market_ms, newest_ms)
        self._heard_ms.update(dict.fromkeys(symbols, self._market_ms))
        if self._market_ms < self._look_ms:
            return []
        self._look_ms = self._market_ms + _LOOK_EVERY_MS
        silent = {symbol for symbol, at in self._heard_ms.items() if self._market_ms - at > DAY_MS}
        gone = sorted(silent & self._silent)
        self._silent = silent.difference(gone)
        for symbol in gone:
            del self._heard_ms[symbol]
        return gone

    def restored(self, symbol: str, newest_ms: int) -> None:
        """Note a symbol restored from a table, with one of its minutes."""
        self._market_ms = max(self._market_ms, newest_ms)
        self._heard_ms[symbol] = max(newest_ms, self._heard_ms.get(symbol, 0))

    def left_before(self) -> list[str]:
        """Forget and return restored symbols that had left already: tables of minutes hold two days."""
        gone = [symbol for symbol, at in self._heard_ms.items() if self._market_ms - at > DAY_MS]
        for symbol in gone:
            del self._heard_ms[symbol]
        return gone
