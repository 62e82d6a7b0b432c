"""Sending candles to subscribers: each event is rendered and framed once, each connection written to once a round."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from app.local.exchange.exchange import Exchange
from app.local.exchange.faults.minutes import ClosedMinute, Mask
from app.local.exchange.market.planes import Planes
from app.local.exchange.render import kline_rows, kline_template, stream_of
from app.local.exchange.streams.connection import ClientConnection, frame
from app.local.exchange.streams.subscriptions import Subscriptions


class Fanout:
    """Sends events to their subscribers. `events`: sent so far, each counted once per receiver."""

    def __init__(self, exchange: Exchange, subscriptions: Subscriptions) -> None:
        self._exchange = exchange
        self._subscriptions = subscriptions
        self.events = 0

    def send_klines(
        self, interval: str, bar: int, bars: Planes, which: Mask, *, event_ms: int, closed: bool
    ) -> None:
        """Send events of the contracts in `which`, shape (contracts,), that have a candle and a subscriber.

        bars: shape (contracts,), of the bar that opens at minute `bar`.
        """
        receivers = self._subscriptions.klines.get(interval)
        if not receivers:
            return
        which = which & (bars.open > 0)
        wanted = [number for number in receivers if which[number]]
        if not wanted:
            return
        at = np.array(wanted, dtype=np.intp)
        rows = kline_rows(
            bars[at], self._exchange.per_unit[at], interval, bar, event_ms=event_ms, closed=closed
        )
        contracts = self._exchange.market.contracts
        dirty: dict[ClientConnection, None] = {}
        for number, row in zip(wanted, rows, strict=True):
            contract = contracts[number]
            event = kline_template(contract, interval) % row
            for connection, framed in _framed(event, stream_of(contract.symbol, interval), receivers[number]):
                connection.pending.append(framed)
                dirty[connection] = None
        self._flush(dirty)

    def send_minute(self, minute: ClosedMinute, which: Mask, *, closed: bool = True) -> None:
        """Send the candles of a minute, and the bars that it belongs to, as they were at its close."""
        for interval, (bar, bars, over) in minute.bars.items():
            ends = over and closed
            self.send_klines(interval, bar, bars, which, event_ms=minute.event_ms, closed=ends)

    def send_array(self, stream: str, event: bytes) -> None:
        receivers = self._subscriptions.arrays[stream]
        for connection, framed in _framed(event, stream, receivers):
            connection.pending.append(framed)
        self._flush(dict.fromkeys(receivers))

    def _flush(self, connections: dict[ClientConnection, None]) -> None:
        for connection in connections:
            self.events += connection.flush()


def _framed(
    event: bytes, stream: str, receivers: list[ClientConnection]
) -> Iterator[tuple[ClientConnection, bytes]]:
    """Yield each connection with the event in the form it takes; each of the two forms is framed once."""
    combined = raw = b""
    for connection in receivers:
        if connection.combined:
            combined = combined or frame(b'{"stream":"%b","data":%b}' % (stream.encode(), event))
            yield connection, combined
        else:
            raw = raw or frame(event)
            yield connection, raw
