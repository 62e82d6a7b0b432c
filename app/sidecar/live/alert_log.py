"""The newest alerts in memory, ready to be framed, in order of `seq`, for new and for resuming clients."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

import orjson

from app.rules.alert import Alert
from app.sidecar.state.limits import SidecarLimits


@dataclass(slots=True)
class LoggedAlert:
    """payload: the alert's JSON as clients see it. The other fields are for the clients' filters, and ingest_ts_ms (UTC
    ms, None if unknown) for its latency. Not frozen: a frozen one takes three times as long to make."""

    seq: int
    id: str
    symbol: str
    rule_type: str
    severity: str
    payload: bytes
    backfilled: bool = False
    shadow: bool = False
    ingest_ts_ms: int | None = None

    @classmethod
    def of(cls, alert: Alert) -> Self:
        """Return an alert of the database, which has a seq."""
        document = alert.as_dict()
        return cls.of_document(document, orjson.dumps(document))

    @classmethod
    def of_document(cls, document: Mapping[str, Any], payload: bytes) -> Self:
        """document: the JSON object in `payload`, with a seq."""
        ingest_ts_ms = document["timings"].get("ingest_ts_ms")
        return cls(
            document["seq"],
            document["id"],
            document["symbol"],
            document["rule_type"],
            document["severity"],
            payload,
            document.get("backfilled") is True,
            document.get("shadow") is True,
            ingest_ts_ms if type(ingest_ts_ms) is int else None,
        )


class AlertLog:
    """The newest alerts, limited in number and bytes; `floor_seq` tells where they begin.

    Every alert with seq > floor_seq is here, once by id. Alerts up to floor_seq are in the database, which has
    them all when its newest seq is at least `settled_seq`, for alerts are written in order.
    """

    def __init__(self, limits: SidecarLimits) -> None:
        self._limits = limits
        self._ids: dict[str, None] = {}
        self.restart(-1)

    def restart(self, floor_seq: int) -> None:
        """Forget all alerts and ids, as for a topic that starts again after `floor_seq`."""
        self._seqs: list[int] = []
        self._alerts: list[LoggedAlert] = []
        self._bytes = 0
        self._ids.clear()
        self.floor_seq = floor_seq
        self.settled_seq = -1
        """The newest alert up to floor_seq; -1 when none of them has been seen."""
        self.newest_seq = floor_seq
        """The newest record read, repeats and barriers included."""

    def __len__(self) -> int:
        return len(self._seqs)

    def is_repeat(self, identifier: str) -> bool:
        """Return whether an alert with this id is remembered."""
        return identifier in self._ids

    def learn(self, identifier: str, seq: int) -> None:
        """Remember an alert only by its id: the database holds it, not this log."""
        self._remember(identifier)
        self.floor_seq = self.settled_seq = self.newest_seq = seq

    def skip(self, seq: int) -> None:
        """Note a record that is no new alert."""
        self.newest_seq = max(self.newest_seq, seq)

    def append(self, alert: LoggedAlert) -> None:
        """Add the next alert. Its seq must be above all earlier ones, and its id new."""
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
        """Drop a tenth more than needed, so that the lists move rarely."""
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
        """Return the next alerts after `seq`, at most `most` of them."""
        start = bisect_right(self._seqs, seq)
        return self._alerts[start : start + most]

    def newest_of(self, symbol: str, rule_type: str, most: int) -> list[LoggedAlert]:
        """Return the newest alerts of a rule and symbol that are held, newest first, at most `most`."""
        of_both = (
            alert
            for alert in reversed(self._alerts)
            if alert.symbol == symbol and alert.rule_type == rule_type
        )
        return list(islice(of_both, most))

    def at(self, seq: int) -> LoggedAlert | None:
        """Return the alert with this seq; None if it is no alert's, or not held."""
        position = bisect_right(self._seqs, seq) - 1
        if position < 0 or self._seqs[position] != seq:
            return None
        return self._alerts[position]
