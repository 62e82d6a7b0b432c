"""Commanded faults: started, counted, ended."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from aiohttp import WSCloseCode

from app.local.exchange.exchange import Exchange
from app.local.exchange.faults.kinds import (
    KINDS,
    Correction,
    DayCut,
    Delisting,
    Drop,
    Duplicate,
    Fault,
    Garbage,
    Late,
    NewContracts,
    OutOfOrder,
    RefuseConnections,
    ServerErrors,
    SlowRest,
    Stall,
    TooManyRequests,
    WithheldMinutes,
)
from app.local.exchange.faults.minutes import MinuteFault, MinuteFaults, Running
from app.local.exchange.streams.connection import ClientConnection
from app.local.exchange.streams.websocket import WebSockets

_GARBAGE: Final = (b"{", b"no json", b'{"stream":"x@kline_1m","data":{"e":"kline"}}', b"[]", b"null")
_NO_TEXT: Final = b"\x00\xff\xfe"
Chosen = TypeVar("Chosen")
Lasting = RefuseConnections | TooManyRequests | ServerErrors | SlowRest | Stall


class FaultRefused(Exception):
    """The fault cannot be applied to this exchange; the text says why."""


@dataclass(slots=True)
class _Active:
    fault: Lasting
    until_s: float
    connections: tuple[ClientConnection, ...] = ()

    @property
    def left_s(self) -> float:
        return self.until_s - time.monotonic()


class Faults:
    """The faults of an exchange.

    commanded: kind -> number of commands. befallen: kind -> number of connections, requests, candles or contracts
    that were hit.
    """

    def __init__(self, exchange: Exchange, seed: int) -> None:
        self._exchange = exchange
        self._chance = random.Random(seed)  # noqa: S311  # reason: repeatable, not secret
        self._active: list[_Active] = []
        self._lost: dict[int, set[int]] = {}
        self.commanded: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        self.befallen: Counter[str] = Counter(dict.fromkeys(KINDS, 0))

    def attach(self, minutes: MinuteFaults, websockets: WebSockets) -> None:
        """Set the parts that carry the faults out."""
        self._minutes = minutes
        self._websockets = websockets

    def count(self, kind: str, times: int = 1) -> None:
        self.befallen[kind] += times

    def begin(self, fault: Fault) -> dict[str, object]:
        """Begin the fault, and return its targets. Raises FaultRefused."""
        self._forget_what_is_over()
        match fault:
            case Drop() | DayCut() | Garbage() | Stall():
                hit = self._to_connections(fault)
            case RefuseConnections() | TooManyRequests() | ServerErrors() | SlowRest():
                self._active.append(_Active(fault, time.monotonic() + fault.for_s))
                hit = {}
            case WithheldMinutes() | Late() | Duplicate() | OutOfOrder() | Correction():
                hit = self._to_minutes(fault)
            case NewContracts() | Delisting():
                hit = self._to_listings(fault)
        self.commanded[fault.kind] += 1
        return hit

    def end_all(self) -> int:
        """End the faults under way and return their number."""
        ended = len(self.under_way())
        for active in self._active:
            for connection in active.connections:
                connection.stalled_until_s = 0.0
        self._active.clear()
        self._minutes.running.clear()
        return ended

    def under_way(self) -> list[dict[str, object]]:
        self._forget_what_is_over()
        lasting = [active.fault.model_dump() | {"left_s": round(active.left_s, 3)} for active in self._active]
        minutes = [
            running.fault.model_dump()
            | {
                "first_minute": running.first,
                "end_minute": running.end,
                "contracts": int(running.which.sum()),
            }
            for running in self._minutes.running
        ]
        return lasting + minutes

    def refuses_connections(self) -> bool:
        refused = self._current(RefuseConnections) is not None
        self.befallen["refuse_connections"] += refused
        return refused

    def lost_minutes(self, contract: int) -> list[int]:
        """Return the minutes that REST never returns."""
        return sorted(self._lost.get(contract, ()))

    def rest_delay_s(self) -> float:
        slow = self._current(SlowRest)
        if not isinstance(slow, SlowRest):
            return 0.0
        self.count("slow_rest")
        return slow.delay_s

    def rest_error(self) -> tuple[int, float] | None:
        """Return (status, seconds until the fault is over) of the answer that a REST request gets instead of its own;
        None without a fault."""
        for kind in (TooManyRequests, ServerErrors):
            found = self._find(kind)
            if found is None or not isinstance(found.fault, TooManyRequests | ServerErrors):
                continue
            if isinstance(found.fault, ServerErrors) and self._chance.random() >= found.fault.share:
                continue
            self.count(found.fault.kind)
            return found.fault.status, found.left_s
        return None

    def _forget_what_is_over(self) -> None:
        self._active = [active for active in self._active if active.left_s > 0]

    def _current(self, kind: type[Lasting]) -> Lasting | None:
        found = self._find(kind)
        return None if found is None else found.fault

    def _find(self, kind: type[Lasting]) -> _Active | None:
        return next(
            (active for active in self._active if isinstance(active.fault, kind) and active.left_s > 0), None
        )

    def _to_connections(self, fault: Drop | DayCut | Garbage | Stall) -> dict[str, object]:
        hit = self._some(
            [connection for connection in self._websockets.connections if connection.open], fault.share
        )
        for connection in hit:
            match fault:
                case Drop():
                    connection.reset()
                case DayCut():
                    connection.close(WSCloseCode.GOING_AWAY, "24 hours are over")
                case Garbage():
                    for _ in range(fault.frames):
                        connection.send(self._chance.choice(_GARBAGE) if fault.utf8 else _NO_TEXT)
                case Stall():
                    connection.stalled_until_s = time.monotonic() + fault.for_s
        if isinstance(fault, Stall):
            self._active.append(_Active(fault, time.monotonic() + fault.for_s, tuple(hit)))
        self.count(fault.kind, len(hit))
        return {"connections": len(hit)}

    def _to_minutes(self, fault: MinuteFault) -> dict[str, object]:
        minute = self._exchange.minute
        traded = np.flatnonzero(self._exchange.listings.traded(minute)).tolist()
        chosen = self._numbers(fault.symbols) if fault.symbols else self._some(traded, fault.share)
        which = np.zeros(len(self._exchange.market.contracts), dtype=np.bool_)
        which[chosen] = True
        if isinstance(fault, WithheldMinutes) and not fault.rest:
            for contract in chosen:
                self._lost.setdefault(contract, set()).update(range(minute, minute + fault.minutes))
        self._minutes.running.append(Running(fault, which, minute, minute + fault.minutes))
        return {"contracts": len(chosen), "first_minute": minute, "end_minute": minute + fault.minutes}

    def _to_listings(self, fault: NewContracts | Delisting) -> dict[str, object]:
        listings, minute = self._exchange.listings, self._exchange.minute
        if isinstance(fault, NewContracts):
            symbols = listings.list_new(fault.count, minute + 1)
        else:
            chosen = self._numbers(fault.symbols) if fault.symbols else listings.newest(fault.count, minute)
            symbols = listings.delist(chosen, minute)
        if not symbols:
            raise FaultRefused(f"{fault.kind}: no contract is left")
        self.count(fault.kind, len(symbols))
        return {"symbols": symbols}

    def _numbers(self, symbols: Sequence[str]) -> list[int]:
        index = self._exchange.listings.index
        if unknown := [symbol for symbol in symbols if symbol not in index]:
            raise FaultRefused(f"no such contract: {', '.join(unknown)}")
        return [index[symbol] for symbol in symbols]

    def _some(self, all_of_them: list[Chosen], share: float) -> list[Chosen]:
        """Return a share of them by chance, at least one if there is any."""
        return self._chance.sample(
            all_of_them, min(len(all_of_them), max(1, round(share * len(all_of_them))))
        )
