"""Candles as the exchange words them: numbers as texts with the contract's digits, times in UTC ms.

Templates are made once per contract and stream; a message is one formatting of its template.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, FloatArray
from app.local.exchange.history import Klines
from app.local.exchange.intervals import close_ms
from app.local.exchange.market.market import Contract
from app.local.exchange.market.planes import Planes

_TRADES_A_MINUTE: Final = 100_000
"""Trade numbers that each minute may use, so that they grow with time."""
_BOOL: Final = {False: b"false", True: b"true"}


def stream_of(symbol: str, interval: str) -> str:
    return f"{symbol.lower()}@kline_{interval}"


@lru_cache(maxsize=100_000)
def kline_template(contract: Contract, interval: str) -> bytes:
    """Return the template of an event of `<symbol>@kline_<interval>`, to be formatted with a row of `kline_rows`."""
    price, quantity, quote = (
        f"%.{digits}f"
        for digits in (contract.price_decimals, contract.quantity_decimals, contract.quote_decimals)
    )
    return (
        f'{{"e":"kline","E":%d,"s":"{contract.symbol}","k":{{"t":%d,"T":%d,"s":"{contract.symbol}",'
        f'"i":"{interval}","f":%d,"L":%d,"o":"{price}","c":"{price}","h":"{price}","l":"{price}",'
        f'"v":"{quantity}","n":%d,"x":%b,"q":"{quote}","V":"{quantity}","Q":"{quote}","B":"0"}}}}'
    ).encode()


def kline_rows(
    bars: Planes, per_unit: FloatArray, interval: str, bar: int, *, event_ms: int, closed: bool
) -> Iterator[tuple[Any, ...]]:
    """Yield the values of `kline_template` by contract; bars of shape (contracts,) that open at minute `bar`."""
    first_trade = bar * _TRADES_A_MINUTE
    open_ms, end_ms, closed_text = bar * MINUTE_MS, close_ms(interval, bar), _BOOL[closed]
    columns = zip(
        *(column.tolist() for column in (
            bars.open / per_unit, bars.close / per_unit, bars.high / per_unit, bars.low / per_unit,
            bars.volume, bars.trades, bars.quote_volume, bars.taker_volume, bars.taker_quote_volume,
        )), strict=True)  # fmt: skip
    for opened, close, high, low, volume, trades, quote, taker, taker_quote in columns:
        last_trade = first_trade + max(trades - 1, 0)
        yield (event_ms, open_ms, end_ms, first_trade, last_trade, opened, close, high, low, volume,
               trades, closed_text, quote, taker, taker_quote)  # fmt: skip


def klines_json(contract: Contract, klines: Klines) -> bytes:
    """Return the answer of /fapi/v1/klines; bars without a candle are left out."""
    price, quantity, quote = (
        f'"%.{digits}f"'
        for digits in (contract.price_decimals, contract.quantity_decimals, contract.quote_decimals)
    )
    template = f'[%d,{price},{price},{price},{price},{quantity},%d,{quote},%d,{quantity},{quote},"0"]'
    bars, per_unit = klines.bars, 10.0**contract.price_decimals
    opens = klines.open_minutes.tolist()
    rows = zip(
        [minute * MINUTE_MS for minute in opens],
        *((plane / per_unit).tolist() for plane in (bars.open, bars.high, bars.low, bars.close)),
        bars.volume.tolist(),
        [close_ms(klines.interval, minute) for minute in opens],
        *(plane.tolist() for plane in (
            bars.quote_volume, bars.trades, bars.taker_volume, bars.taker_quote_volume
        )),
        strict=True,
    )  # fmt: skip
    return ("[" + ",".join([template % row for row in rows if row[1]]) + "]").encode()


_TICKER_KEYS: Final = {
    "rest": '{"symbol":"%s","priceChange":"%s","priceChangePercent":"%.3f","weightedAvgPrice":"%s",'
    '"lastPrice":"%s","lastQty":"%s","openPrice":"%s","highPrice":"%s","lowPrice":"%s","volume":"%s",'
    '"quoteVolume":"%s","openTime":%d,"closeTime":%d,"firstId":%d,"lastId":%d,"count":%d}',
    "24hrTicker": '{"e":"24hrTicker","E":%d,"s":"%s","p":"%s","P":"%.3f","w":"%s","c":"%s","Q":"%s","o":"%s",'
    '"h":"%s","l":"%s","v":"%s","q":"%s","O":%d,"C":%d,"F":%d,"L":%d,"n":%d}',
    "24hrMiniTicker": '{"e":"24hrMiniTicker","E":%d,"s":"%s","c":"%s","o":"%s","h":"%s","l":"%s","v":"%s","q":"%s"}',
}


def tickers_json(
    form: str, contracts: Sequence[Contract], which: NDArray[np.intp], day: Planes, now_ms: int
) -> list[str]:
    """Return 24 h tickers of the contracts numbered `which`: form is `rest`, `24hrTicker` or `24hrMiniTicker`.

    day: the last 24 hours as one bar, shape (contracts,).
    """
    now_minute = now_ms // MINUTE_MS
    open_ms = (now_minute - 1439) * MINUTE_MS
    chosen = day[which]
    columns = zip(
        which.tolist(), *(getattr(chosen, name).tolist() for name in (
            "open", "high", "low", "close", "volume", "quote_volume", "trades"
        )), strict=True)  # fmt: skip
    texts = []
    for number, opened, high, low, close, volume, quote_volume, trades in columns:
        contract = contracts[number]
        decimals = contract.price_decimals
        unit = 10.0**decimals
        prices = {"o": opened / unit, "h": high / unit, "l": low / unit, "c": close / unit}
        o, h, l, c = (f"{price:.{decimals}f}" for price in prices.values())  # noqa: E741
        v = f"{volume:.{contract.quantity_decimals}f}"
        q = f"{quote_volume:.{contract.quote_decimals}f}"
        if form == "24hrMiniTicker":
            texts.append(_TICKER_KEYS[form] % (now_ms, contract.symbol, c, o, h, l, v, q))
            continue
        change = f"{(close - opened) / unit:.{decimals}f}"
        percent = (close / opened - 1) * 100 if opened else 0.0
        average = f"{quote_volume / volume if volume else close / unit:.{decimals}f}"
        quantity = f"{10.0**-contract.quantity_decimals:.{contract.quantity_decimals}f}"
        first = (now_minute - 1439) * _TRADES_A_MINUTE
        common = (change, percent, average, c, quantity, o, h, l, v, q, open_ms, now_ms, first,
                  now_minute * _TRADES_A_MINUTE, trades)  # fmt: skip
        head = (contract.symbol,) if form == "rest" else (now_ms, contract.symbol)
        texts.append(_TICKER_KEYS[form] % (*head, *common))
    return texts
