"""Hostile HTTP and WebSocket clients of a running sidecar: it must not fail, must keep nothing, and must go on serving.

Every input depends only on its number. FUZZ_INPUTS sets how many there are (by hand, a hundred thousand and more);
FUZZ_FIRST sets the first number, to repeat an input that failed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import orjson
import psutil
import pytest
import structlog
from structlog.testing import capture_logs

from app.settings import Settings
from app.sidecar.state.limits import SidecarLimits
from app.telemetry.bounded_http import HttpBounds
from tests.support.eventually import eventually
from tests.support.metric_batches import metrics_batch
from tests.support.sidecar import Client, prepare, running_sidecar
from tests.support.tokens import SECRET, bearer

INPUTS = int(os.environ.get("FUZZ_INPUTS", "400"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
ROUNDS = 4
AT_ONCE = 64
"""Clients at once: enough to keep the sidecar busy while most of them only listen."""
GROWTH_MAX_BYTES = 48 * 1024 * 1024
"""The growth allowed from the second round to the last: with many inputs, a leaked connection or message each exceeds
it."""
PATIENCE_S = 0.4
"""How long a client waits for an answer before it leaves."""
LIMITS = SidecarLimits(
    http=HttpBounds(connections=400, connections_per_address=400, head_s=2.0, idle_s=4.0), idle_s=5.0
)
FAULTS = {"request_failed", "client_failed", "conversation_failed"}
"""Log events that report a failure of the sidecar at an input."""

PATHS = (
    "/",
    "/api/alerts?severity=critical&symbol=BTCUSDT&limit=20",
    "/api/metrics",
    "/api/metrics?symbol=S1USDT&field=close,rsi_14",
    "/api/metrics/S1USDT?timeframe=5m",
    "/api/screener?where=price_change_1h%20%3E%202&sort=volume_1h&order=asc&limit=5",
    "/api/symbols",
    "/api/klines?symbol=S1USDT&interval=4h&startTime=1&limit=5",
    "/api/tickers?symbols=S1USDT",
    "/api/rules",
    "/api/rules/futures_pioneer_bull",
    "/api/explain?symbol=S1USDT&rule=futures_pioneer_bull&at=2024-02-27T14:05:00Z",
    "/api/settings",
    "/api/webhook/deliveries",
    "/api/openapi.json",
    "/api/health",
    "/health/ready",
    "/metrics",
    "/ws/alerts?since=3",
    "/ws",
)
BODIES = (
    (
        "/api/rules",
        b'{"rule_type":"fuzzed","expression":"close_1m > 1","severity":"low","symbols":["A"],"hold_s":3}',
    ),
    ("/api/settings", b'{"selected_alerts":["*"],"subscriptions":[{"rule_type":"a","symbol":"BTCUSDT"}]}'),
    ("/api/webhook", b'{"format":"json","enabled":true}'),
)
MESSAGES = (
    b'{"type":"subscribe","channel":"alerts","symbols":["BTCUSDT"],"severities":["high"],"since":3,"id":1}',
    b'{"type":"subscribe","channel":"metrics","timeframes":["5m"],"fields":["close"],"interval_ms":1000}',
    b'{"type":"subscribe","channel":"candles","symbols":["S1USDT"]}',
    b'{"type":"unsubscribe","channel":"candles"}',
    b'{"type":"auth","token":"a.b.c","id":"x"}',
    b'{"type":"ping","id":"p1"}',
)
ODD = (
    b"", b"\x00", b"\xff\xfe", b"%00", b"%ff%c3%28", b"\r\n", b"'", b'"', b"\\u0000", b"\\ud800", b"-1", b"1e999",
    b"NaN", b"9" * 40, b"[" * 300, b"(" * 300, b"{}", b"null", b"x" * 3_000,
    "名前".encode(), b"2024-02-30T25:61:61Z", b"..%2f",
)  # fmt: skip
HEADERS = (
    b"Content-Length: -1", b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: 99999999999999999999",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"Expect: 100-continue", b"Upgrade: h2c\r\nConnection: Upgrade", b"Upgrade: websocket\r\nConnection: Upgrade",
    b"If-None-Match: *", b'If-None-Match: "a", W/"b", ' + b'"c",' * 500, b"Authorization: Bearer a.b.c",
    b"Authorization: Basic eA==", b"Cookie: " + b"a=b; " * 900, b"X: " + b"y" * 9_000, b"Range: bytes=5-1,0-",
    b"X-Forwarded-For: ::1, 999.1.1.1, " + b"10.0.0.1, " * 200, b"Content-Encoding: gzip", b"Origin: null", b": none",
    b" folded", b"X\x00Y: z", b"X-Request-ID: ../../etc", b"Host: b", b"Connection: close, keep-alive",
)  # fmt: skip


def mutated(random: Random, data: bytes, most: int = 4) -> bytes:
    found = bytearray(data)
    for _ in range(random.randint(0, most)):
        at = random.randrange(len(found) + 1)
        kind = random.randrange(5)
        if kind == 0 and at < len(found):
            found[at] = random.randrange(256)
        elif kind == 1:
            del found[at : at + random.randint(1, 9)]
        elif kind == 2:
            found[at:at] = random.choice(ODD)
        elif kind == 3:
            found[at:at] = random.randbytes(random.randint(1, 40))
        else:
            found[at:at] = found[max(0, at - 12) : at]
    return bytes(found)


def query_of_odd_values(random: Random, path: bytes) -> bytes:
    """Return the path with odd values for its parameters."""
    return re.sub(rb"=[^&]*", lambda _: b"=" + random.choice(ODD).replace(b"\r\n", b"%0D%0A"), path)


def request(random: Random) -> bytes:
    method, path, body = b"GET", random.choice(PATHS).encode(), b""
    headers = [b"Host: sidecar"]
    if random.random() < 0.3:
        address, plain = random.choice(BODIES)
        method, path, body = random.choice((b"POST", b"PUT")), address.encode(), mutated(random, plain)
        headers += [
            b"Content-Type: application/json",
            f"Authorization: {bearer(role='admin')['Authorization']}".encode(),
        ]
        if random.random() < 0.4:
            headers.append(b"Transfer-Encoding: chunked")
            body = mutated(random, chunked(random, body), 2)
        else:
            headers.append(b"Content-Length: %d" % (len(body) + random.choice((0, 0, 0, 5, -5))))
    elif random.random() < 0.4:
        path = query_of_odd_values(random, path)
    headers += random.sample(HEADERS, random.choice((0, 0, 1, 3)))
    whole = b"%b %b HTTP/1.1\r\n%b\r\n\r\n%b" % (method, path, b"\r\n".join(headers), body)
    return mutated(random, whole) if random.random() < 0.4 else whole


def chunked(random: Random, body: bytes) -> bytes:
    found, at = b"", 0
    while at < len(body):
        size = random.randint(1, 30)
        piece = body[at : at + size]
        found += b"%x\r\n%b\r\n" % (len(piece), piece)
        at += size
    return found + b"0\r\n\r\n"


def frame(random: Random) -> bytes:
    """Return a WebSocket frame, mostly a valid one."""
    payload = mutated(random, random.choice(MESSAGES))
    if random.random() < 0.1:
        payload = orjson.dumps(
            {"type": "subscribe", "channel": "alerts", "symbols": ["S"] * random.randint(1, 5_000)}
        )
    first = random.choice(
        (0x81, 0x81, 0x81, 0x82, 0x01, 0x80, 0x00, 0x88, 0x89, 0x8A, 0xC1, 0xF1, 0x83, 0x8F)
    )
    if first >= 0x88:
        payload = payload[: random.choice((0, 1, 2, 125, 126))]
    declared = (
        len(payload) if random.random() < 0.9 else random.choice((0, 1, 2**16, 2**31, 2**63 - 1, 2**64 - 1))
    )
    masked = 0x80 if random.random() < 0.95 else 0
    if declared < 126:
        head = bytes((first, masked | declared))
    elif declared < 2**16:
        head = bytes((first, masked | 126)) + declared.to_bytes(2, "big")
    else:
        head = bytes((first, masked | 127)) + declared.to_bytes(8, "big")
    mask = random.randbytes(4)
    size = len(payload)
    whole_mask = (mask * (size // 4 + 1))[:size]
    body = (int.from_bytes(payload) ^ int.from_bytes(whole_mask)).to_bytes(size)
    return head + (mask if masked else b"") + (body if masked else payload)


def conversation(random: Random) -> bytes:
    handshake = (
        b"GET %b HTTP/1.1\r\nHost: sidecar\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        % random.choice((b"/ws", b"/ws", b"/ws/alerts"))
    )
    if random.random() < 0.1:
        handshake = mutated(random, handshake)
    return handshake + b"".join(frame(random) for _ in range(random.randint(1, 6)))


async def attack(port: int, number: int) -> tuple[bytes, bytes]:
    """Open one hostile connection. Return (the bytes sent, the bytes received)."""
    random = Random(number)
    said = conversation(random) if random.random() < 0.45 else request(random) * random.choice((1, 1, 1, 3))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = b""
    try:
        step = random.choice((len(said), len(said), 7, 400)) or 1
        for at in range(0, len(said), max(step, len(said) // 60 + 1)):
            writer.write(said[at : at + max(step, len(said) // 60 + 1)])
            await asyncio.sleep(0)
        if random.random() < 0.2:
            writer.write_eof()
        async with asyncio.timeout(PATIENCE_S if random.random() < 0.5 else 0.02):
            while piece := await reader.read(65_536):
                heard += piece
    except OSError:
        pass  # patience ended, or the sidecar closed the connection first
    finally:
        if random.random() < 0.5:
            writer.transport.abort()
        writer.close()
    return said, heard


def failure(heard: bytes) -> str | None:
    """Return what is wrong with an answer, or None."""
    statuses = {int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", heard[:2_000])}
    if 500 in statuses or any(status > 503 for status in statuses):
        return f"answered {sorted(statuses)}"
    if b"the sidecar failed" in heard:
        return "closed a client for a fault of its own"
    return None


@asynccontextmanager
async def good_client(client: Client) -> AsyncIterator[list[int]]:
    """Keep polling over REST and WebSocket; yield a list of one item that counts the answers."""
    served = [0]

    async def ask() -> None:
        async with client.channels() as socket:
            await socket.subscribe("metrics", symbols=["S1USDT"], fields=["close"], interval_ms=60_000)
            await socket.hear_kind("snapshot")
            while True:
                status, body = await client.get("/api/metrics/S1USDT", field="close")
                assert (status, body["symbol"]) == (200, "S1USDT")
                served[0] += 1
                if served[0] % 10 == 0:
                    await socket.say("ping")
                    await socket.hear_kind("pong")
                # stay within the messages that one client may send per minute
                await asyncio.sleep(0.05)

    asking = asyncio.create_task(ask())
    try:
        yield served
        assert not asking.done(), asking.exception()
    finally:
        asking.cancel()
        await asyncio.wait([asking])


def resident_bytes() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


async def hostile_round(port: int, numbers: range) -> None:
    left = iter(numbers)

    async def one_after_the_other() -> None:
        for number in left:
            said, heard = await attack(port, number)
            fault = failure(heard)
            assert fault is None, f"input {number} {fault}: {said[:400]!r}"

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other())


@pytest.mark.timeout(max(300, INPUTS // 5))
async def test_hostile_clients_harm_nobody_and_leave_nothing(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    # asyncio warns of every write to an attacker that is gone, and pytest keeps each record
    caplog.set_level(logging.ERROR, "asyncio")
    await prepare(settings)
    given = Settings.model_validate({**settings.model_dump(), "jwt_secret": SECRET, "log_level": "info"})
    with capture_logs(processors=[structlog.processors.format_exc_info]) as logs:
        async with running_sidecar(given, replace(LIMITS)) as client:
            rows = [(f"S{n}USDT", 0, {"close_1m": n + 0.5}) for n in range(20)]
            client.sidecar.parts.latest.take(metrics_batch(rows))
            port, sizes = client.sidecar.port, []
            async with good_client(client) as served:
                for number in range(ROUNDS):
                    before = served[0]
                    first = FIRST + number * INPUTS // ROUNDS
                    await hostile_round(port, range(first, FIRST + (number + 1) * INPUTS // ROUNDS))
                    assert served[0] > before, "nobody else was served"
                    faults = [entry for entry in logs if entry["event"] in FAULTS]
                    assert not faults, faults
                    logs.clear()
                    sizes.append(resident_bytes())
            await eventually(lambda: len(client.sidecar.parts.clients) == 0, within_s=30)
            await eventually(lambda: len(client.sidecar.connections) <= 2, within_s=30)
            assert sizes[-1] - sizes[1] < GROWTH_MAX_BYTES, sizes
