"""The alert: one type from the rules to the webhooks, with the id that it always gets and its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha1
from typing import Any, Final, Self
from uuid import UUID

import orjson

from app.candles.batch import MINUTE_MS
from app.rules.alert_faults import storable
from app.times import rfc3339, utc_ms

ALERT_NAMESPACE: Final = UUID("6f1d3c1e-7a55-5d0c-9b3e-2f8f4c9d7a10")
"""Fixed for ever: ids of the same alert must agree across versions of the screener."""
_VARIANT: Final = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
"""Digit of a hash -> that digit of a UUID which names its variant (RFC 9562, 4.1)."""


def alert_id(rule_type: str, version: int, symbol: str, open_time_ms: int) -> str:
    """UUIDv5 (RFC 9562, 5.5) of `rule_type|version|symbol|open_time_ms`."""
    name = f"{rule_type}|{version}|{symbol}|{open_time_ms}"
    # by hand, since uuid.uuid5 takes four times as long and the alerts of a market's close come by the hundred
    text = sha1(ALERT_NAMESPACE.bytes + name.encode(), usedforsecurity=False).hexdigest()
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"


@dataclass(frozen=True, slots=True)
class Timings:
    """When an alert passed each place, UTC ms; None where it did not, or is unknown.

    further: entries of another version of the screener, and times that are not whole numbers, as they came.
    """

    exchange_ts_ms: int | None = None
    ingest_ts_ms: int | None = None
    evaluate_ts_ms: int | None = None
    publish_ts_ms: int | None = None
    deliver_ts_ms: int | None = None
    further: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the timings of a JSON object that `as_dict` gave."""
        further = {
            name: value for name, value in values.items() if name not in _TIMES or type(value) is not int
        }
        known = values if not further else {name: values[name] for name in values.keys() - further.keys()}
        return cls(
            known.get("exchange_ts_ms"),
            known.get("ingest_ts_ms"),
            known.get("evaluate_ts_ms"),
            known.get("publish_ts_ms"),
            known.get("deliver_ts_ms"),
            further,
        )

    def at(self, *, publish_ts_ms: int | None = None, deliver_ts_ms: int | None = None) -> Self:
        """Return a copy with these times; None keeps the present one."""
        return type(self)(
            self.exchange_ts_ms,
            self.ingest_ts_ms,
            self.evaluate_ts_ms,
            self.publish_ts_ms if publish_ts_ms is None else publish_ts_ms,
            self.deliver_ts_ms if deliver_ts_ms is None else deliver_ts_ms,
            self.further,
        )

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object, without null entries."""
        times: dict[str, object] = {}
        if self.exchange_ts_ms is not None:
            times["exchange_ts_ms"] = self.exchange_ts_ms
        if self.ingest_ts_ms is not None:
            times["ingest_ts_ms"] = self.ingest_ts_ms
        if self.evaluate_ts_ms is not None:
            times["evaluate_ts_ms"] = self.evaluate_ts_ms
        if self.publish_ts_ms is not None:
            times["publish_ts_ms"] = self.publish_ts_ms
        if self.deliver_ts_ms is not None:
            times["deliver_ts_ms"] = self.deliver_ts_ms
        return times | {name: value for name, value in self.further.items() if name not in times}


_TIMES: Final = frozenset(Timings.__slots__) - {"further"}


@dataclass(frozen=True, slots=True)
class Alert:
    """timestamp: RFC 3339, the end of the minute in close mode, the event time in live mode. price: None if unknown.

    metadata: the metrics, null for unknown ones, and `seen`. backfilled: whether it is about a time long past; None
    before it is published. seq: its offset in the topic of alerts; None before it has one. further: entries of a
    newer version of the screener, which are passed on. shadow: its rule is on trial: the alert is stored, and sent to
    nobody.
    """

    id: str
    symbol: str
    rule_type: str
    rule_version: int
    severity: str
    description: str
    timestamp: str
    price: float | None
    metadata: Mapping[str, object]
    timings: Timings
    backfilled: bool | None = None
    seq: int | None = None
    further: Mapping[str, object] = field(default_factory=dict)
    shadow: bool = False

    @classmethod
    def decode(cls, data: bytes, seq: int) -> Self:
        """Return the alert in a record of the topic. Raises BadInput for anything that the database could not store,
        or that a reader could not show again."""
        document = storable(data, seq)
        # an alert of an earlier screener lacks it
        document.setdefault("backfilled", False)
        return cls.from_dict(document, seq)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], seq: int | None = None) -> Self:
        """Return the alert of a JSON object in which `alert_fault` finds no fault. seq: None takes the object's own."""
        return cls(
            document["id"],
            document["symbol"],
            document["rule_type"],
            document["rule_version"],
            document["severity"],
            document["description"],
            document["timestamp"],
            document["price"],
            document["metadata"],
            Timings.from_dict(document["timings"]),
            document.get("backfilled"),
            document.get("seq") if seq is None else seq,
            {name: value for name, value in document.items() if name not in _FIELDS},
            document.get("shadow", False),
        )

    def encode(self) -> bytes:
        """Return the value of its record in the topic of alerts: JSON without seq, which is the record's offset."""
        return orjson.dumps(self._record(self.timings, self.backfilled))

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object as clients see it: the record with seq, if there is one."""
        record = self._record(self.timings, self.backfilled)
        return record if self.seq is None else {"id": self.id, "seq": self.seq} | record

    def _record(self, timings: Timings, backfilled: bool | None) -> dict[str, object]:
        record: dict[str, object] = {
            "id": self.id,
            "symbol": self.symbol,
            "rule_type": self.rule_type,
            "rule_version": self.rule_version,
            "severity": self.severity,
            "description": self.description,
            "timestamp": self.timestamp,
            "price": self.price,
            "metadata": self.metadata,
            "timings": timings.as_dict(),
        }
        if backfilled is not None:
            record["backfilled"] = backfilled
        if self.shadow:
            record["shadow"] = True
        if self.further:
            record.update(self.further)
        return record

    def published(self, publish_ts_ms: int, backfilled: bool) -> bytes:
        """Return its record as it goes into the topic at that time (UTC ms)."""
        return orjson.dumps(self._record(self.timings.at(publish_ts_ms=publish_ts_ms), backfilled))

    def delivered(self, deliver_ts_ms: int) -> Self:
        """Return the alert as it is sent to clients at that time (UTC ms)."""
        return replace(self, timings=self.timings.at(deliver_ts_ms=deliver_ts_ms))

    @property
    def seen(self) -> Mapping[str, Any] | None:
        """Return the values its rule saw: minute, expression, values; None for an alert without them."""
        seen = self.metadata.get("seen")
        return seen if isinstance(seen, dict) else None

    @property
    def minute_ms(self) -> int | None:
        """The open time (UTC ms) of the minute that it is about, from which its id was made; None if unknown, for
        example if the exchange's data came minutes late."""
        time_ms = _time_ms(self.timestamp)
        guesses = [] if self.seen is None else [_time_ms(self.seen.get("minute"))]
        if time_ms is not None:
            guesses += [time_ms // MINUTE_MS * MINUTE_MS - back * MINUTE_MS for back in range(3)]
        for guess in guesses:
            if guess is not None and self.id == alert_id(
                self.rule_type, self.rule_version, self.symbol, guess
            ):
                return guess
        return None


_FIELDS: Final = frozenset(Alert.__slots__) - {"further"}


def alert_at(alerts: Sequence[Alert], time_ms: int) -> tuple[Alert, int] | None:
    """Return, of one rule's alerts of one symbol, the alert with exactly this timestamp, else the alert of the minute
    that contains this time; with its minute (open time, UTC ms). None if there is no such alert."""
    minute, text = time_ms // MINUTE_MS * MINUTE_MS, rfc3339(time_ms)
    known = [(alert, of) for alert in alerts if (of := alert.minute_ms) is not None]
    borne = (found for found in known if found[0].timestamp == text)
    return next(borne, None) or next((found for found in known if found[1] == minute), None)


def _time_ms(text: object) -> int | None:
    try:
        moment = datetime.fromisoformat(str(text))
        return utc_ms(moment) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
