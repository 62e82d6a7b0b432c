"""An artificial market in which all symbols jump in the same minute on demand, and one rule fires for all."""

from __future__ import annotations

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch, FloatArray, concatenate

RULE = "futures_pioneer_bull"
QUIET_MINUTES = 16
"""Minutes before a jump: they fill a window of 15 minutes, so that it does not contain the previous jump."""
_JUMP = 1.02
_QUIET_QUOTE_VOLUME = 1_000.0
_JUMP_QUOTE_VOLUME = 100_000.0


class JumpingMarket:
    """A market of constant prices except for jumps of 2 %, with a hundred times the volume.

    At a jump the changes over 5 and 15 minutes are 2 %, and nearly all volume of 15 minutes is in the last 5:
    `RULE` fires. No other rule that is enabled by default does, because those need a day or 20 hours of history.
    """

    def __init__(self, symbols: int, first_open_time_ms: int) -> None:
        self._symbols = tuple(f"JUMP{number:04}USDT" for number in range(symbols))
        self._open_time_ms = first_open_time_ms
        self._price: FloatArray = 1.0 + np.arange(symbols) % 100

    def quiet(self, minutes: int) -> CandleBatch:
        """Return closed candles of all symbols for the next quiet minutes."""
        return concatenate([self._minute(1.0, _QUIET_QUOTE_VOLUME) for _ in range(minutes)])

    def jump(self) -> CandleBatch:
        """Return the closed candles of the next minute, in which every symbol jumps."""
        return self._minute(_JUMP, _JUMP_QUOTE_VOLUME)

    def _minute(self, factor: float, quote_volume: float) -> CandleBatch:
        rows = len(self._symbols)
        opened, self._price = self._price, self._price * factor
        start_ms = np.full(rows, self._open_time_ms)
        self._open_time_ms += MINUTE_MS
        return CandleBatch(
            symbols=self._symbols,
            symbol_index=np.arange(rows, dtype=np.int32),
            open_time_ms=start_ms,
            open=opened,
            high=self._price,
            low=opened,
            close=self._price,
            volume=quote_volume / self._price,
            quote_volume=np.full(rows, quote_volume),
            trades=np.full(rows, 100),
            taker_buy_volume=np.full(rows, np.nan),
            taker_buy_quote_volume=np.full(rows, np.nan),
            quote_estimated=np.zeros(rows, dtype=np.bool_),
            closed=np.ones(rows, dtype=np.bool_),
            event_ts_ms=start_ms + MINUTE_MS,
            ingest_ts_ms=start_ms + MINUTE_MS,
        )
