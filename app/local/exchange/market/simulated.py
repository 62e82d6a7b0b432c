"""The market of the price model: contracts with well-known and made-up names, without beginning or end."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from app.candles.batch import FloatArray
from app.local.exchange.market.market import BLOCK, Contract
from app.local.exchange.market.model import ContractTraits, draw_listing, simulate_day
from app.local.exchange.market.planes import Planes, TickArray

_SPARE: Final = 4
"""At least this many contracts wait for their listing; more of them fill up the last block."""
_QUOTE_PER_TRADE: Final = 400.0
_LEADERS: Final[tuple[tuple[str, float, float], ...]] = (
    # symbol, price, usual turnover per minute in the quote asset
    ("BTCUSDT", 64_000.0, 4_000_000.0), ("ETHUSDT", 3_100.0, 2_500_000.0), ("SOLUSDT", 145.0, 1_200_000.0),
    ("BNBUSDT", 580.0, 500_000.0), ("XRPUSDT", 0.52, 450_000.0), ("DOGEUSDT", 0.15, 400_000.0),
    ("ADAUSDT", 0.45, 200_000.0), ("AVAXUSDT", 35.0, 180_000.0), ("LINKUSDT", 14.0, 150_000.0),
    ("DOTUSDT", 6.8, 120_000.0), ("LTCUSDT", 82.0, 120_000.0), ("TRXUSDT", 0.12, 100_000.0),
    # in another script, as the exchange lists some
    ("龙虾USDT", 0.85, 90_000.0), ("币安人生USDT", 0.21, 80_000.0),
)  # fmt: skip


class SimulatedMarket:
    """A market with `symbols` contracts listed from the start, and some more that may be listed later."""

    def __init__(self, symbols: int, seed: int) -> None:
        self.seed = seed
        self.first_listed = symbols
        self._listing = cache(self._draw_listing)
        self.contracts = tuple(self._contract(number) for number in range(_whole_blocks(symbols + _SPARE)))

    def first_minute(self) -> int | None:
        return None

    def last_minute(self) -> int | None:
        return None

    def day(self, day: int, block: int) -> Planes:
        listing = self._listing(block)
        simulated = simulate_day(listing, self.seed, day, block)
        price_decimals, quantity_decimals = _decimals(listing)
        per_unit = 10.0**price_decimals
        opened, close, high, low = (
            _ticks(log_price, per_unit)
            for log_price in (simulated.start, simulated.close, simulated.high, simulated.low)
        )
        opened = np.concatenate([opened[None], close[:-1]])
        high = np.maximum(high, np.maximum(opened, close))
        low = np.minimum(low, np.minimum(opened, close))
        typical = (high / per_unit + low / per_unit + close / per_unit) / 3
        lots = np.maximum(np.round(simulated.turnover / typical * 10.0**quantity_decimals), 1.0)
        volume = lots / 10.0**quantity_decimals
        quote_volume = volume * typical
        taker_share = np.clip(0.5 + 30 * np.log(close / opened), 0.1, 0.9)
        taker_lots = np.round(lots * taker_share)
        return Planes(
            open=opened,
            high=high,
            low=low,
            close=close,
            volume=volume,
            quote_volume=_rounded(quote_volume, np.minimum(8, price_decimals + quantity_decimals)),
            taker_volume=taker_lots / 10.0**quantity_decimals,
            trades=1 + (quote_volume / _QUOTE_PER_TRADE).astype(np.int64),
        )

    def _draw_listing(self, block: int) -> ContractTraits:
        listing = draw_listing(self.seed, block)
        if block == 0:
            for position, (_, price, turnover) in enumerate(_LEADERS):
                listing.log_price[position], listing.turnover[position] = np.log(price), turnover
        return listing

    def _contract(self, number: int) -> Contract:
        price_decimals, quantity_decimals = _decimals(self._listing(number // BLOCK))
        at = number % BLOCK
        return Contract(simulated_symbol(number), int(price_decimals[at]), int(quantity_decimals[at]))


def simulated_symbol(number: int) -> str:
    """Return the symbol of contract `number`, from 0: well-known names, two in Chinese, then SIM0015USDT and so on."""
    return _LEADERS[number][0] if number < len(_LEADERS) else f"SIM{number + 1:04}USDT"


def _whole_blocks(contracts: int) -> int:
    return -(-contracts // BLOCK) * BLOCK


def _decimals(listing: ContractTraits) -> tuple[FloatArray, FloatArray]:
    """Return the decimals of prices and quantities: five digits of the price, and lots worth around one to a hundred
    USDT."""
    magnitude = np.floor(listing.log_price / np.log(10))
    return np.clip(4 - magnitude, 1, 8), np.clip(magnitude - 1, 0, 3)


def _ticks(log_price: FloatArray, per_unit: FloatArray) -> TickArray:
    ticks: TickArray = np.maximum(np.round(np.exp(log_price) * per_unit), 1.0).astype(np.int32)
    return ticks


def _rounded(values: FloatArray, decimals: FloatArray) -> FloatArray:
    scale = 10.0**decimals
    rounded: FloatArray = np.round(values * scale) / scale
    return rounded
