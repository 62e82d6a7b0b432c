"""A simulated market: candles of made-up prices, for a screener without an exchange.

Pure and seeded: time comes only from the arguments. The candle of a symbol and minute depends on the number
of symbols, the seed and that minute alone, wherever the simulation starts and however often the forming
minute is looked at; so a restarted simulation repeats the history that the one before it has told.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch, FloatArray, concatenate
from app.ingress.price_model import MINUTES_A_DAY, STEPS, DayModel, Listing, MinutePath

_DAY_MS: Final = MINUTES_A_DAY * MINUTE_MS
_LEADERS: Final[tuple[tuple[str, float, float], ...]] = (
    # symbol, price, usual turnover per minute in the quote asset
    ("BTCUSDT", 64_000.0, 4_000_000.0), ("ETHUSDT", 3_100.0, 2_500_000.0), ("SOLUSDT", 145.0, 1_200_000.0),
    ("BNBUSDT", 580.0, 500_000.0), ("XRPUSDT", 0.52, 450_000.0), ("DOGEUSDT", 0.15, 400_000.0),
    ("ADAUSDT", 0.45, 200_000.0), ("AVAXUSDT", 35.0, 180_000.0), ("LINKUSDT", 14.0, 150_000.0),
    ("DOTUSDT", 6.8, 120_000.0), ("LTCUSDT", 82.0, 120_000.0), ("TRXUSDT", 0.12, 100_000.0),
)  # fmt: skip


def simulated_symbols(count: int) -> tuple[str, ...]:
    """A few well-known names, then SIM0013USDT and so on."""
    names = [name for name, _, _ in _LEADERS[:count]]
    return (*names, *(f"SIM{number:04}USDT" for number in range(len(names) + 1, count + 1)))


def _listing(count: int, seed: int) -> Listing:
    random = np.random.default_rng([seed, count])
    price = np.exp(random.normal(0.0, 2.0, count))
    turnover = 30_000 * np.exp(random.normal(0.0, 0.8, count))
    for position, (_, leader_price, leader_turnover) in enumerate(_LEADERS[:count]):
        price[position], turnover[position] = leader_price, leader_turnover
    return Listing(
        log_price=np.log(price),
        turnover=turnover,
        beta=random.uniform(0.6, 1.5, count),
        sigma=0.0007 * np.exp(random.normal(0, 0.3, count)),
    )


class SimulatedMarket:
    """The market from the minute of `start_ms` on. Call it with times that do not go back.

    `start_ms`: UTC ms; the earlier minutes of its day are computed and skipped.
    """

    def __init__(self, symbols: int, seed: int, start_ms: int) -> None:
        self.symbols = simulated_symbols(symbols)
        self._listing = _listing(symbols, seed)
        self._seed = seed
        self._tick = 10.0 ** (np.floor(self._listing.log_price / np.log(10)) - 4)
        """Price steps: five digits of the listing's price."""
        self._open_time_ms = start_ms // _DAY_MS * _DAY_MS
        self._path = self._next_path()
        while self._open_time_ms + MINUTE_MS <= start_ms:
            self._turn_minute()

    def history(self, minutes: int) -> CandleBatch:
        """The next `minutes` (at least 1) as closed candles, minute by minute, all symbols in each."""
        return concatenate([self._close_minute() for _ in range(minutes)])

    def step(self, now_ms: int) -> CandleBatch:
        """Closed candles of the minutes that ended since the last call, then that of `now_ms` as it forms.

        A `now_ms` before the minute that is forming counts as its start.
        """
        batches = []
        while now_ms >= self._open_time_ms + MINUTE_MS:
            batches.append(self._close_minute())
        steps = max(0, now_ms - self._open_time_ms) * STEPS // MINUTE_MS + 1
        batches.append(self._candles(steps, closed=False, event_ts_ms=now_ms))
        return concatenate(batches)

    def _next_path(self) -> MinutePath:
        if self._open_time_ms % _DAY_MS == 0:
            self._day = DayModel(self._listing, self._seed, self._open_time_ms // _DAY_MS)
        return self._day.next_minute()

    def _turn_minute(self) -> None:
        self._open_time_ms += MINUTE_MS
        self._path = self._next_path()

    def _close_minute(self) -> CandleBatch:
        candles = self._candles(STEPS, closed=True, event_ts_ms=self._open_time_ms + MINUTE_MS)
        self._turn_minute()
        return candles

    def _candles(self, steps: int, *, closed: bool, event_ts_ms: int) -> CandleBatch:
        """The candle of every symbol after the first `steps` of the minute."""
        rows = len(self.symbols)
        price = self._on_ticks(np.exp(self._path.log_price[: steps + 1]))
        high, low = price.max(axis=0), price.min(axis=0)
        traded = self._path.quote_volume[:steps]
        volume = np.round((traded / price[1:]).sum(axis=0), 4)
        # the volume is rounded, so its worth is put back between what it costs at the low and at the high
        quote_volume = np.round(np.clip(traded.sum(axis=0), volume * low, volume * high), 4)
        taker_share = np.clip(0.5 + 30 * np.log(price[-1] / price[0]), 0.1, 0.9)
        return CandleBatch(
            symbols=self.symbols,
            symbol_index=np.arange(rows, dtype=np.int32),
            open_time_ms=np.full(rows, self._open_time_ms),
            open=price[0],
            high=high,
            low=low,
            close=price[-1],
            volume=volume,
            quote_volume=quote_volume,
            trades=np.ceil(quote_volume / 400).astype(np.int64),
            taker_buy_volume=np.round(volume * taker_share, 4),
            taker_buy_quote_volume=np.round(quote_volume * taker_share, 4),
            quote_estimated=np.zeros(rows, dtype=np.bool_),
            closed=np.full(rows, closed),
            event_ts_ms=np.full(rows, event_ts_ms),
            ingest_ts_ms=np.full(rows, event_ts_ms),
        )

    def _on_ticks(self, price: FloatArray) -> FloatArray:
        """The float nearest to the decimal price on whole ticks, at least one tick."""
        ticks = np.maximum(np.round(price / self._tick), 1.0)
        per_unit = np.maximum(np.round(1 / self._tick), 1.0)
        rounded: FloatArray = np.where(self._tick < 1, ticks / per_unit, ticks * self._tick)
        return rounded
