"""The subscribers of each stream."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from app.local.exchange.intervals import LENGTHS
from app.local.exchange.streams.connection import ClientConnection

_KLINE: Final = re.compile(r"(\w+)@kline_(\d+[mhdwM])")
ARRAYS: Final = {"!ticker@arr": "24hrTicker", "!miniTicker@arr": "24hrMiniTicker"}
"""Stream of the 24 h tickers of all contracts -> the name of its events."""


class BadStream(Exception):
    """A name that no stream can have."""


class Subscriptions:
    """klines: interval -> contract number -> connections. arrays: stream -> connections."""

    def __init__(self, contracts: Mapping[str, int]) -> None:
        """contracts: symbol -> number."""
        self._contracts = contracts
        self.klines: dict[str, dict[int, list[ClientConnection]]] = {}
        self.arrays: dict[str, list[ClientConnection]] = {name: [] for name in ARRAYS}
        self.changes = 0
        """Grows with every change of `klines`."""

    def add(self, connection: ClientConnection, streams: Iterable[str]) -> None:
        """Subscribe to streams. A well-formed name of an unknown contract is accepted but sends nothing, as on the
        exchange. Raises BadStream for other names; then nothing is added."""
        fresh = {name: self._parse(name) for name in streams if name not in connection.streams}
        for name, kline in fresh.items():
            connection.streams[name] = None
            if kline is None:
                self.arrays[name].append(connection)
            elif kline[1] is not None:
                self.klines.setdefault(kline[0], {}).setdefault(kline[1], []).append(connection)
        self.changes += 1

    def remove(self, connection: ClientConnection, streams: Iterable[str]) -> None:
        for name in streams:
            if name not in connection.streams:
                continue
            del connection.streams[name]
            kline = self._parse(name)
            if kline is None:
                self.arrays[name].remove(connection)
            elif kline[1] is not None:
                self._remove_kline(connection, kline[0], kline[1])
        self.changes += 1

    def _remove_kline(self, connection: ClientConnection, interval: str, contract: int) -> None:
        receivers = self.klines[interval]
        receivers[contract].remove(connection)
        if not receivers[contract]:
            del receivers[contract]
        if not receivers:
            del self.klines[interval]

    def _parse(self, name: str) -> tuple[str, int | None] | None:
        """Return (interval, contract number or None for an unknown contract); None for an array."""
        if name in ARRAYS:
            return None
        found = _KLINE.fullmatch(name)
        if found is None or found[2] not in LENGTHS:
            raise BadStream(name)
        return found[2], self._contracts.get(found[1].upper())
