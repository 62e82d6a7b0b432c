"""The newest alerts in memory, ready to be framed, in order of `seq`: sent to clients, resumed from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import orjson

from app.sidecar.limits import SidecarLimits


@dataclass(frozen=True, slots=True)
class LoggedAlert:
    """payload: its JSON as clients see it. The rest is what clients choose alerts by."""

    seq: int
    id: str
    symbol: str
    rule_type: str
    severity: str
    payload: bytes

    @classmethod
    def of(cls, seq: int, alert: Mapping[str, Any], deliver_ts_ms: int | None = None) -> Self:
        """`deliver_ts_ms`: when it is sent to clients, if that is now."""
        whole = {"id": alert["id"], "seq": seq}
        whole.update((name, value) for name, value in alert.items() if name != "seq")
        timings = alert.get("timings")
        if deliver_ts_ms is not None and isinstance(timings, dict):
            whole["timings"] = {**timings, "deliver_ts_ms": deliver_ts_ms}
        return cls(
            seq=seq,
            id=alert["id"],
            symbol=alert["symbol"],
            rule_type=alert["rule_type"],
            severity=alert["severity"],
            payload=orjson.dumps(whole),
        )


class AlertLog:
    """Bounded by number and bytes. Not a record of everything: `floor_seq` tells where it begins.

    Every alert with seq > floor_seq is here, once by id. For those up to floor_seq ask the database; it has
    them all when its newest seq is at least `settled_seq`, for alerts are written in order.
    """

    def __init__(self, limits: SidecarLimits) -> None:
        self._limits = limits
        self._ids: dict[str, None] = {}
        self.restart(-1)

    def restart(self, floor_seq: int) -> None:
        """Forgets all alerts and ids, as for a topic that begins anew after `floor_seq`."""
        self._seqs: list[int] = []
        self._alerts: list[LoggedAlert] = []
        self._bytes = 0
        self._ids.clear()
        self.floor_seq = floor_seq
        self.settled_seq = -1
        """The newest alert up to floor_seq; -1 when none of them has been seen."""
        self.newest_seq = floor_seq
        """The newest record taken, repeats and barriers included."""

    def __len__(self) -> int:
        return len(self._seqs)

    def is_repeat(self, identifier: str) -> bool:
        """Whether this id was learnt lately."""
        return identifier in self._ids

    def learn(self, identifier: str, seq: int) -> None:
        """Remembers an alert only by its id: the database holds it, not this log."""
        self._remember(identifier)
        self.floor_seq = self.settled_seq = self.newest_seq = seq

    def skip(self, seq: int) -> None:
        """Notes a record that is no new alert."""
        self.newest_seq = max(self.newest_seq, seq)

    def append(self, alert: LoggedAlert) -> None:
        """Adds the next alert: its seq is above all before it, its id is new."""
        self._remember(alert.id)
        self._seqs.append(alert.seq)
        self._alerts.append(alert)
        self._bytes += len(alert.payload)
        self.newest_seq = alert.seq
        self._trim()

    def _remember(self, identifier: str) -> None:
        self._ids[identifier] = None
        if len(self._ids) > self._limits.remembered_ids:
            del self._ids[next(iter(self._ids))]

    def _trim(self) -> None:
        """Drops a tenth more than needed, so that the lists move rarely."""
        if len(self._seqs) <= self._limits.remembered_alerts and self._bytes <= self._limits.remembered_bytes:
            return
        most_alerts = self._limits.remembered_alerts * 9 // 10
        most_bytes = self._limits.remembered_bytes * 9 // 10
        drop = 0
        while drop < len(self._seqs) and (len(self._seqs) - drop > most_alerts or self._bytes > most_bytes):
            self._bytes -= len(self._alerts[drop].payload)
            drop += 1
        self.floor_seq = self.settled_seq = self._seqs[drop - 1]
        del self._seqs[:drop], self._alerts[:drop]

    def holds_all_after(self, seq: int) -> bool:
        return seq >= self.floor_seq

    def after(self, seq: int, most: int) -> Sequence[LoggedAlert]:
        """The next alerts after `seq`, at most `most` of them."""
        start = bisect_right(self._seqs, seq)
        return self._alerts[start : start + most]

    def at(self, seq: int) -> LoggedAlert | None:
        """The alert with this seq; None when it is no alert's, or not held."""
        position = bisect_right(self._seqs, seq) - 1
        if position < 0 or self._seqs[position] != seq:
            return None
        return self._alerts[position]
