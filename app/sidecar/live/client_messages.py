"""Messages of clients of /ws, parsed strictly: an unknown or malformed message is rejected with the reason.

| type | fields beside `type` and an optional `id`, which the answer repeats |
|---|---|
| auth | token |
| subscribe | channel `alerts`: symbols, rules, severities, backfilled, mine, since, since_id |
| | channel `metrics`: symbols, timeframes, fields, interval_ms |
| | channel `candles`: symbols, interval_ms |
| unsubscribe | channel |
| ping | |

A list that is absent does not filter. A subscription replaces the one its channel had.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from app.candles.symbols import is_symbol
from app.market.timeframes import TIMEFRAMES
from app.rules.rule import SEVERITIES
from app.sidecar.http.parameters import MAX_LIST_ITEMS, RULE_TYPE
from app.sidecar.http.problems import unknown_names
from app.sidecar.live.alert_groups import Wanted
from app.sidecar.live.latest_channel import WantedValues
from app.sidecar.rest.metrics_json import FIELD_NAMES

INTERVAL_MS: Final = range(250, 60_001)
_SEQ: Final = range(-1, 2**62)
_ID_MAX_CHARACTERS: Final = 64


class MessageError(Exception):
    """code, text: for the client. channel, identifier: as named in the message, if readable."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.channel: str | None = None
        self.identifier: str | int | None = None


@dataclass(frozen=True, slots=True)
class Auth:
    identifier: str | int | None
    token: str

    def __repr__(self) -> str:
        return "Auth(token=***)"


@dataclass(frozen=True, slots=True)
class SubscribeAlerts:
    """since: the seq after which alerts are wanted; None for new ones only. since_id: the id of the alert with
    that seq, which reveals a sequence that started again."""

    identifier: str | int | None
    wanted: Wanted
    since: int | None
    since_id: str | None
    mine: bool = False
    """Only alerts that the user's settings select."""


@dataclass(frozen=True, slots=True)
class SubscribeValues:
    identifier: str | int | None
    channel: str
    wanted: WantedValues


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    identifier: str | int | None
    channel: str


@dataclass(frozen=True, slots=True)
class Ping:
    identifier: str | int | None


ClientMessage = Auth | SubscribeAlerts | SubscribeValues | Unsubscribe | Ping


def parse_message(text: str) -> ClientMessage:
    """Parse a message. Raises MessageError."""
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise MessageError("bad_message", "a message must be a JSON object") from None
    if not isinstance(said, dict):
        raise MessageError("bad_message", "a message must be a JSON object")
    reader = _Reader(said)
    try:
        return reader.message()
    except MessageError as error:
        error.identifier = reader.identifier
        channel = said.get("channel")
        if isinstance(channel, str) and channel in CHANNELS:
            error.channel = channel
        raise


class _Reader:
    def __init__(self, said: Mapping[str, Any]) -> None:
        self._said = said
        self.identifier: str | int | None = None

    def message(self) -> ClientMessage:
        self.identifier = self._identifier()
        kind = self._said.get("type")
        reader = _READERS.get(kind) if isinstance(kind, str) else None
        if reader is None:
            raise MessageError("unknown_type", f"type must be one of {', '.join(_READERS)}")
        return reader(self)

    def auth(self) -> Auth:
        self._only("token")
        token = self._said.get("token")
        if not isinstance(token, str) or not token:
            raise MessageError("bad_field", "token: must be text")
        return Auth(self.identifier, token)

    def subscribe(self) -> SubscribeAlerts | SubscribeValues:
        return CHANNELS[self._channel()](self)

    def unsubscribe(self) -> Unsubscribe:
        self._only("channel")
        return Unsubscribe(self.identifier, self._channel())

    def ping(self) -> Ping:
        self._only()
        return Ping(self.identifier)

    def alerts(self) -> SubscribeAlerts:
        self._only("channel", "symbols", "rules", "severities", "backfilled", "mine", "since", "since_id")
        wanted = Wanted(
            self._symbols(),
            self._words("rules", RULE_TYPE.fullmatch, "a rule_type"),
            self._choices("severities", SEVERITIES),
            backfilled=self._flag("backfilled"),
        )
        since = self._whole_number("since", _SEQ)
        return SubscribeAlerts(self.identifier, wanted, since, self._uuid("since_id"), self._flag("mine"))

    def metrics(self) -> SubscribeValues:
        self._only("channel", "symbols", "timeframes", "fields", "interval_ms")
        timeframes = self._choices("timeframes", TIMEFRAMES) or frozenset()
        fields = self._choices("fields", FIELD_NAMES) or frozenset()
        return self._values("metrics", (timeframes, fields))

    def candles(self) -> SubscribeValues:
        self._only("channel", "symbols", "interval_ms")
        return self._values("candles", (frozenset(), frozenset()))

    def _values(self, channel: str, fields: tuple[frozenset[str], frozenset[str]]) -> SubscribeValues:
        interval_ms = self._whole_number("interval_ms", INTERVAL_MS) or INTERVAL_MS.start
        return SubscribeValues(self.identifier, channel, WantedValues(self._symbols(), fields, interval_ms))

    def _only(self, *names: str) -> None:
        known = ("type", "id", *names)
        unknown = [name for name in self._said if name not in known]
        if unknown:
            raise MessageError("unknown_field", unknown_names("field", unknown, known))

    def _identifier(self) -> str | int | None:
        identifier = self._said.get("id")
        if identifier is None or (type(identifier) is int and abs(identifier) < 2**53):
            return identifier
        if isinstance(identifier, str) and len(identifier) <= _ID_MAX_CHARACTERS:
            return identifier
        raise MessageError("bad_field", f"id: must be a number or a text of up to {_ID_MAX_CHARACTERS}")

    def _channel(self) -> str:
        channel = self._said.get("channel")
        if not isinstance(channel, str) or channel not in CHANNELS:
            raise MessageError("unknown_channel", f"channel must be one of {', '.join(CHANNELS)}")
        return channel

    def _whole_number(self, name: str, allowed: range) -> int | None:
        value = self._said.get(name)
        if value is None:
            return None
        if type(value) is not int or value not in allowed:
            raise MessageError(
                "bad_field", f"{name}: must be a whole number from {allowed.start} to {allowed.stop - 1}"
            )
        return value

    def _flag(self, name: str) -> bool:
        value = self._said.get(name)
        if value is not None and not isinstance(value, bool):
            raise MessageError("bad_field", f"{name}: must be true or false")
        return bool(value)

    def _uuid(self, name: str) -> str | None:
        value = self._said.get(name)
        if value is None:
            return None
        try:
            return str(UUID(value))
        except (ValueError, TypeError, AttributeError):
            raise MessageError("bad_field", f"{name}: must be the id of an alert") from None

    def _symbols(self) -> frozenset[str] | None:
        return self._words("symbols", is_symbol, "a symbol such as BTCUSDT")

    def _choices(self, name: str, allowed: Collection[str]) -> frozenset[str] | None:
        return self._words(name, lambda item: item in allowed, f"one of {', '.join(allowed)}")

    def _words(self, name: str, fits: Callable[[str], object], what: str) -> frozenset[str] | None:
        values = self._said.get(name)
        if values is None:
            return None
        if not isinstance(values, list) or not 1 <= len(values) <= MAX_LIST_ITEMS:
            raise MessageError("bad_field", f"{name}: must be a list of 1 to {MAX_LIST_ITEMS}")
        if not all(isinstance(value, str) and fits(value) for value in values):
            raise MessageError("bad_field", f"{name}: each must be {what}")
        return frozenset(values)


CHANNELS: Final[Mapping[str, Callable[[_Reader], SubscribeAlerts | SubscribeValues]]] = {
    "alerts": _Reader.alerts,
    "metrics": _Reader.metrics,
    "candles": _Reader.candles,
}
_READERS: Final[Mapping[str, Callable[[_Reader], ClientMessage]]] = {
    "auth": _Reader.auth,
    "subscribe": _Reader.subscribe,
    "unsubscribe": _Reader.unsubscribe,
    "ping": _Reader.ping,
}
