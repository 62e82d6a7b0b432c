"""Refusing what is hostile costs what its bytes cost, in any form: compared with parsing a good message as large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import orjson
import pytest

from app.errors import BadInput
from app.rules.alert import Alert
from app.sidecar.live.client_messages import MessageError, parse_message
from app.sidecar.state.limits import SidecarLimits
from app.wire.dead_letters import DeadLetter
from app.wire.frames import decode_bars, decode_candles, decode_metrics, encode_candles
from app.wire.gap_reports import decode_gaps
from app.wire.nats.candles import Parsed, parse
from tests.support.database import candles
from tests.support.processor_time import (
    MAX_BYTES,
    NOW_MS,
    array,
    candle,
    collected_as_in_a_role,
    cpu_s,
    good_message_s,
)

TIMES_A_GOOD_MESSAGE = 40
"""It was 240 for an array of numbers when each of them was a dead letter; measured now: at most 16."""
WAYS: tuple[dict[str, object], ...] = (
    {"open": []}, {"close": -1}, {"open_time": "x"}, {"closed": "yes"}, {"exchange": "bybit"}, {"volume": -1},
    {"number_of_trades": 1.5}, {"high": "NaN"}, {"open_time": 1}, {"event_time": "0001-01-01T00:00:00Z"},
    {"open_time": NOW_MS + 1}, {"symbol": "no symbol"}, {"low": {}}, {"open": "1.0x"},
)  # fmt: skip
KEYS = b",".join(b'"k%d":1' % at for at in range(90_000))
HOSTILE = {
    "numbers": b"[" + b"1," * (MAX_BYTES // 2 - 2) + b"1]",
    "nulls": array(lambda _: b"null"),
    "empty arrays": array(lambda _: b"[]"),
    "a deep array": b"[" * 1_000 + b"]" * 1_000,
    "an array deeper than JSON may be": b"[" * (MAX_BYTES // 2) + b"]" * (MAX_BYTES // 2),
    "deep arrays": array(lambda _: b"[" * 900 + b"]" * 900),
    "an object of 90,000 keys": b"{%b}" % KEYS,
    "objects of many keys": array(lambda _: b"{%b}" % b",".join(b'"k%d":1' % at for at in range(100))),
    "a bad candle of 80,000 keys more": candle(close=-1)[:-1] + b"," + KEYS[:900_000].rpartition(b",")[0] + b"}",
    "a symbol of a megabyte": candle("A" * (MAX_BYTES - 300)),
    "a symbol of another script": candle("\u4e2d" * (MAX_BYTES // 3 - 300)),
    "a different bad symbol each": array(lambda at: candle(f"a b{at}")),
    "a time of a megabyte": candle(open_time="2" * (MAX_BYTES - 300)),
    "a number of a megabyte": candle().replace(b"1.5", b"9" * (MAX_BYTES - 300)),
    "a number as text of a megabyte": candle(open="1" * (MAX_BYTES // 2) + "." + "1" * (MAX_BYTES // 2 - 300) + "x"),
    "all of a wrong type": array(lambda _: candle(open=[])),
    "all with a bad time": array(lambda _: candle(open_time="2023-11-14T00:00:0Z")),
    "all of another exchange": array(lambda at: candle(exchange=f"x{at}")),
    "all bad in different ways": array(lambda at: candle(**({"symbol": "S"} | WAYS[at % len(WAYS)]))),
    "one in eight good": array(lambda at: candle(**(WAYS[at % len(WAYS)] if at % 8 else {}))),
    "half an array": array(lambda _: candle())[:-1],
    "no text": b"\xff" * MAX_BYTES,
}  # fmt: skip


def parsed(data: bytes) -> Parsed:
    return parse([data], ingest_ts_ms=NOW_MS, max_bytes=MAX_BYTES, exchange="binance")


def letters(data: bytes) -> list[bytes]:
    """As the bridge makes them."""
    return [
        DeadLetter(
            found.reason, found.message, "candles.1m.X", found.original or data,
            {str(reason): count for reason, count in found.counts.items()},
        ).encode("bridge", NOW_MS)
        for found in parsed(data).rejected
    ]  # fmt: skip


@pytest.fixture(scope="module")
def good_s() -> Iterator[float]:
    with collected_as_in_a_role():
        yield good_message_s()


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_message_is_one_dead_letter_that_costs_what_its_bytes_cost(
    data: bytes, good_s: float
) -> None:
    (letter,) = letters(data)
    # base64, and words of a bounded length
    assert len(letter) < 1.4 * len(data) + 10_000
    assert cpu_s(lambda: letters(data)) < TIMES_A_GOOD_MESSAGE * good_s


READERS: dict[str, Callable[[bytes], object]] = {
    "candles": decode_candles,
    "metrics": decode_metrics,
    "bars": decode_bars,
    "alerts": lambda data: Alert.decode(data, 0),
    "gaps": decode_gaps,
}


def of_frame(data: bytes) -> bytes:
    """A frame whose header is this JSON."""
    frame = encode_candles(candles(["AUSDT"], 1, NOW_MS))
    at = frame.index(b"{")
    return frame[: at - 4] + len(data).to_bytes(4, "little") + data


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_a_hostile_record_of_any_topic_is_refused_for_what_its_bytes_cost(
    reader: Callable[[bytes], object], good_s: float
) -> None:
    """The sidecar's legacy subjects read their topics with these too."""
    for name, data in HOSTILE.items():
        for record in (data, of_frame(data), b'{"gaps":%b,"header":%b}' % (data[:-1] + b"]", data)):

            def refused(record: bytes = record) -> None:
                with suppress(BadInput):
                    reader(record)

            assert cpu_s(refused) < TIMES_A_GOOD_MESSAGE * good_s, name


SAID_BYTES = SidecarLimits().client_message_bytes


def said(**fields: object) -> bytes:
    return orjson.dumps({"type": "subscribe", "channel": "metrics"} | fields)


SAID = {
    "numbers": array(lambda _: b"1", SAID_BYTES),
    "deep": b"[" * (SAID_BYTES // 2) + b"]" * (SAID_BYTES // 2),
    "keys": b'{"type":"subscribe","channel":"metrics",%b}' % KEYS[: SAID_BYTES - 100].rpartition(b",")[0],
    "symbols": said(symbols=[f"S{at}USDT" for at in range(SAID_BYTES // 14)]),
    "bad symbols": said(symbols=[f"a b{at}" for at in range(SAID_BYTES // 14)]),
    "fields": said(fields=[f"field_{at}" for at in range(SAID_BYTES // 16)]),
    "rules": said(channel="alerts", rules=["a" * 60_000]),
    "a symbol": said(symbols=["A" * (SAID_BYTES - 100)]),
    "an id": said(id="i" * (SAID_BYTES - 100)),
    "a type": said(type="t" * (SAID_BYTES - 100)),
    "a channel": said(channel="c" * (SAID_BYTES - 100)),
    "a number": said(channel="alerts", since=1).replace(b":1", b":" + b"9" * (SAID_BYTES - 100)),
}


@pytest.mark.parametrize("text", SAID.values(), ids=SAID.keys())
def test_a_hostile_message_of_a_websocket_client_is_refused_for_what_its_bytes_cost(
    text: bytes, good_s: float
) -> None:
    told: list[str] = []

    def refused() -> None:
        with pytest.raises(MessageError) as error:
            parse_message(text.decode())
        told.append(error.value.text)

    assert cpu_s(refused) < TIMES_A_GOOD_MESSAGE * good_s * SAID_BYTES / MAX_BYTES
    assert len(told[0]) < 4_000
