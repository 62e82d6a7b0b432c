"""The 24 h tickers of all contracts, sent every second to those who want them."""

from __future__ import annotations

import asyncio
from typing import Final

import numpy as np

from app.simexchange.exchange import Exchange
from app.simexchange.fanout import Fanout
from app.simexchange.render import tickers_json
from app.simexchange.subscriptions import ARRAYS, Subscriptions

_EVERY_S: Final = 1.0


async def run_tickers(exchange: Exchange, subscriptions: Subscriptions, fanout: Fanout) -> None:
    """Until cancelled."""
    while True:
        for stream in [stream for stream, receivers in subscriptions.arrays.items() if receivers]:
            day = await exchange.day_bars()
            which = np.flatnonzero(exchange.listings.traded(exchange.minute))
            now_ms = exchange.clock.now_ms()
            texts = tickers_json(ARRAYS[stream], exchange.market.contracts, which, day, now_ms)
            fanout.send_array(stream, ("[" + ",".join(texts) + "]").encode())
        await asyncio.sleep(_EVERY_S)
