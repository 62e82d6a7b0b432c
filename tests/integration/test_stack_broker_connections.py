"""The broker survives what is not a Kafka client."""

from __future__ import annotations

import asyncio
import struct

import pytest

from app.stack.embedded import EmbeddedStack
from app.stack.probe import probe_kafka

API_VERSIONS = 18
UNSUPPORTED_VERSION = 35


def _framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def _request(key: int, version: int, body: bytes = b"") -> bytes:
    return _framed(struct.pack(">hhih", key, version, 77, -1) + body)


async def _connect(stack: EmbeddedStack) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = stack.urls["kafka"].rpartition(":")
    return await asyncio.open_connection(host, int(port))


@pytest.mark.parametrize(
    "message",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">i", -5),
        struct.pack(">i", 2**31 - 1),
        _framed(b"short"),
        _request(999, 0),
        _request(0, 99),
        _request(1, 11, b"cut off"),
        _request(3, 5, b"\xff" * 3),
    ],
    ids=["http", "negative", "huge", "short", "unknown api", "unknown version", "cut off", "bad array"],
)
async def test_nonsense_closes_its_connection_and_harms_nobody_else(
    message: bytes, stack: EmbeddedStack
) -> None:
    reader, writer = await _connect(stack)
    writer.write(message)
    writer.write_eof()
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()
    await probe_kafka(stack.urls["kafka"])


async def test_a_newer_client_is_told_which_versions_are_served(stack: EmbeddedStack) -> None:
    reader, writer = await _connect(stack)
    writer.write(_request(API_VERSIONS, 4, b"\x00\x00\x00"))
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    correlation_id, error, count = struct.unpack_from(">ihi", await reader.readexactly(size))
    writer.close()
    assert (correlation_id, error) == (77, UNSUPPORTED_VERSION)
    assert count > 10


async def test_a_client_that_goes_away_while_it_waits_harms_nobody(stack: EmbeddedStack) -> None:
    for _ in range(20):
        _, writer = await _connect(stack)
        writer.write(_request(API_VERSIONS, 0)[:-1])
        writer.close()
    await probe_kafka(stack.urls["kafka"])
