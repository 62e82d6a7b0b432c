"""An artificial market that updates its candles all the time: each symbol jumps once in a minute, which then closes."""

from __future__ import annotations

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch, FloatArray, IntArray
from app.rules.rule import Rule

LIVE_RULE = Rule("live_jump", "price_change_1m > 0.5", "info", cooldown_s=1, mode="live")
"""True for the updates of a jump."""
CLOSE_RULE = Rule("live_close", "volume_1m > 0", "info", cooldown_s=1, mode="close")
"""True for every close."""
_JUMP = 1.008
_JUMP_UPDATES = 4
_QUOTE_VOLUME = 1_000.0


class LiveMarket:
    """A market of constant prices except for a jump of 0.8 % in each minute, at a random time for each symbol.

    A jump lasts four updates. The updates of a symbol are evenly spaced, with those of the others evenly in between.
    """

    def __init__(self, symbols: int, updates_per_s: float) -> None:
        self.symbols = tuple(f"LIVE{number:04}USDT" for number in range(symbols))
        self._spacing_ms = 1000 / updates_per_s
        self._offset_ms = np.linspace(0.0, self._spacing_ms, symbols, endpoint=False)
        self._price: FloatArray = 1.0 + np.arange(symbols) % 100
        self._rng = np.random.default_rng(symbols)
        self._minute = -1
        self._jump_at: FloatArray = np.zeros(symbols)

    def closed(self, open_time_ms: int) -> CandleBatch:
        """Return the closed candles of a minute."""
        return self._candles(
            np.arange(len(self.symbols)), open_time_ms, open_time_ms + MINUTE_MS, closed=True
        )

    def updates(self, since_ms: int, until_ms: int) -> CandleBatch:
        """Return the updates due in (since_ms, until_ms], which lie in one minute: at most one per symbol, stamped
        `until_ms`."""
        before = np.floor((since_ms - self._offset_ms) / self._spacing_ms)
        due = np.flatnonzero(np.floor((until_ms - self._offset_ms) / self._spacing_ms) > before)
        return self._candles(due, until_ms // MINUTE_MS * MINUTE_MS, until_ms, closed=False)

    def _candles(self, rows: IntArray, open_time_ms: int, event_ts_ms: int, closed: bool) -> CandleBatch:
        opened = self._price[rows]
        since_open_ms = event_ts_ms - open_time_ms
        jumps = np.zeros(len(rows), dtype=np.bool_)
        if not closed:
            jumps = self._is_jump(rows, open_time_ms // MINUTE_MS, since_open_ms)
        price = np.where(jumps, opened * _JUMP, opened)
        count = len(rows)
        nothing = np.full(count, np.nan)
        # the volume grows with every update, as it does by trades
        volume = _QUOTE_VOLUME * (1 + since_open_ms)
        return CandleBatch(
            symbols=tuple(self.symbols[row] for row in rows.tolist()),
            symbol_index=np.arange(count, dtype=np.int32),
            open_time_ms=np.full(count, open_time_ms),
            open=opened,
            high=opened * _JUMP,
            low=opened,
            close=price,
            volume=volume / opened,
            quote_volume=np.full(count, volume),
            trades=np.full(count, 1 + since_open_ms),
            taker_buy_volume=nothing,
            taker_buy_quote_volume=nothing,
            quote_estimated=np.zeros(count, dtype=np.bool_),
            closed=np.full(count, closed),
            event_ts_ms=np.full(count, event_ts_ms),
            ingest_ts_ms=np.full(count, event_ts_ms),
        )

    def _is_jump(self, rows: IntArray, minute: int, since_open_ms: int) -> np.ndarray:
        if minute != self._minute:
            self._minute = minute
            latest_ms = MINUTE_MS - (_JUMP_UPDATES + 1) * self._spacing_ms
            self._jump_at = self._rng.uniform(0, latest_ms, len(self.symbols))
        since_jump_ms = since_open_ms - self._jump_at[rows]
        return (since_jump_ms >= 0) & (since_jump_ms < _JUMP_UPDATES * self._spacing_ms)
