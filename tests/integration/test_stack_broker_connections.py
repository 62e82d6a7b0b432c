"""The broker survives what is not a Kafka client, and answers nobody without the password."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import pytest

from app.local.servers.embedded import EmbeddedStack
from app.process.health.probes import probe_kafka

HANDSHAKE, API_VERSIONS, AUTHENTICATE = 17, 18, 36
UNSUPPORTED_MECHANISM, ILLEGAL_STATE, UNSUPPORTED_VERSION, AUTHENTICATION_FAILED = 33, 34, 35, 58

Connect = Callable[[EmbeddedStack], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def _framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def _request(key: int, version: int, body: bytes = b"") -> bytes:
    return _framed(struct.pack(">hhih", key, version, 77, -1) + body)


async def _connect(stack: EmbeddedStack) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(f"kafka://{stack.urls['kafka']}")
    return await asyncio.open_connection(parts.hostname, parts.port)


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """Without its correlation id."""
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return (await reader.readexactly(size))[4:]


def _handshake(mechanism: bytes = b"PLAIN") -> bytes:
    return _request(HANDSHAKE, 1, struct.pack(">h", len(mechanism)) + mechanism)


def _proof(proof: bytes, version: int = 1) -> bytes:
    return _request(AUTHENTICATE, version, struct.pack(">i", len(proof)) + proof)


def _right_proof(stack: EmbeddedStack) -> bytes:
    parts = urlsplit(f"kafka://{stack.urls['kafka']}")
    return f"\0{parts.username}\0{parts.password}".encode()


async def _connect_as_the_user(
    stack: EmbeddedStack, version: int = 1
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await _connect(stack)
    for request in (_handshake(), _proof(_right_proof(stack), version)):
        writer.write(request)
        (error,) = struct.unpack_from(">h", await _answer(reader))
        assert error == 0
    return reader, writer


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
@pytest.mark.parametrize("connect", [_connect, _connect_as_the_user], ids=["stranger", "user"])
async def test_nonsense_closes_its_connection_and_harms_nobody_else(
    message: bytes, connect: Connect, stack: EmbeddedStack
) -> None:
    reader, writer = await connect(stack)
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


# Metadata in version 5 of all topics: no array, and the flag that lets topics be made.
METADATA = _request(3, 5, b"\xff\xff\xff\xff\x00")


@pytest.mark.parametrize("version", [0, 1])
async def test_the_user_is_served(version: int, stack: EmbeddedStack) -> None:
    reader, writer = await _connect_as_the_user(stack, version)
    writer.write(METADATA)
    async with asyncio.timeout(20):
        assert b"127.0.0.1" in await _answer(reader)
    writer.close()


async def test_every_api_but_the_login_closes_the_connection_of_a_stranger(stack: EmbeddedStack) -> None:
    reader, writer = await _connect(stack)
    writer.write(_request(API_VERSIONS, 0))
    error, count = struct.unpack_from(">hi", served := await _answer(reader))
    writer.close()
    keys = {key: lowest for key, lowest, _ in struct.iter_unpack(">hhh", served[6 : 6 + 6 * count])}
    assert error == 0
    assert {HANDSHAKE, AUTHENTICATE} < keys.keys()
    for key in keys.keys() - {HANDSHAKE, AUTHENTICATE, API_VERSIONS}:
        reader, writer = await _connect(stack)
        # half a login is none
        writer.write(_handshake() + (METADATA if key == 3 else _request(key, keys[key], b"\x00" * 64)))
        async with asyncio.timeout(20):
            await _answer(reader)
            assert await reader.read() == b"", key
        writer.close()


async def test_a_wrong_password_is_refused_and_ends_the_connection(stack: EmbeddedStack) -> None:
    right = _right_proof(stack)
    _, name, password = right.split(b"\0")
    for wrong in (
        b"",
        right[:-1],
        right + b"x",
        b"\0" + name + b"\0",
        b"\0x\0" + password,
        b"x" + right,
        password,
    ):
        reader, writer = await _connect(stack)
        writer.write(_handshake() + _proof(wrong) + METADATA)
        async with asyncio.timeout(20):
            assert struct.unpack_from(">h", await _answer(reader)) == (0,)
            assert struct.unpack_from(">h", await _answer(reader)) == (AUTHENTICATION_FAILED,)
            assert await reader.read() == b""
        writer.close()


async def test_a_login_has_its_order_and_one_mechanism(stack: EmbeddedStack) -> None:
    reader, writer = await _connect(stack)
    writer.write(_handshake(b"SCRAM-SHA-512") + _proof(_right_proof(stack)))
    async with asyncio.timeout(20):
        assert struct.unpack_from(">h", await _answer(reader)) == (UNSUPPORTED_MECHANISM,)
        assert struct.unpack_from(">h", await _answer(reader)) == (ILLEGAL_STATE,)
        assert await reader.read() == b""
    writer.close()


async def test_a_stranger_sends_no_large_request(stack: EmbeddedStack) -> None:
    reader, writer = await _connect(stack)
    writer.write(struct.pack(">i", 1024 * 1024))
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()
