"""Messages of /ws to its clients, as frames: `{"type", "channel", "seq", "data"}`, and the client's `id` if given.

| type | channel | data |
|---|---|---|
| authenticated | | user, expires_at |
| subscribed | any | the accepted subscription; later messages come after `seq` |
| unsubscribed | any | |
| alert | alerts | one alert; `seq` is the point to resume after it |
| gap | alerts | reason (`too_old`, `began_anew`), since, and the `seq` after which the alerts that follow begin |
| snapshot | metrics, candles | list of values as they are; `more` is true while parts of it follow |
| update | metrics, candles | list of the values that changed |
| pong | | |
| error | if one is meant | error (a code), message |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from app.sidecar.live.alert_log import LoggedAlert
from app.sidecar.live.frames import FrameBlock, text_frame


def plain_alert_frame(alert: LoggedAlert) -> bytes:
    """Return an alert as /ws/alerts sends it: the JSON alone."""
    return text_frame(alert.payload)


def alert_frame(alert: LoggedAlert) -> bytes:
    head = b'{"type":"alert","channel":"alerts","seq":%d,"data":' % alert.seq
    return text_frame(b"".join((head, alert.payload, b"}")))


def values_frame(
    kind: str, channel: str, seq: int, values: Sequence[bytes], more: bool | None = None
) -> bytes:
    """`values`: JSON objects. more: whether parts of a snapshot follow; None for other messages."""
    head = b'{"type":"%b","channel":"%b","seq":%d,' % (kind.encode(), channel.encode(), seq)
    if more is not None:
        head += b'"more":true,' if more else b'"more":false,'
    return text_frame(b"".join((head, b'"data":[', b",".join(values), b"]}")))


def message(
    kind: str,
    *,
    channel: str | None = None,
    seq: int | None = None,
    data: Any = None,
    identifier: str | int | None = None,
) -> FrameBlock:
    """Return any other message; fields that are None are left out."""
    fields = {"type": kind, "channel": channel, "seq": seq, "data": data, "id": identifier}
    body = orjson.dumps({name: value for name, value in fields.items() if value is not None})
    return FrameBlock(text_frame(body), 1)
