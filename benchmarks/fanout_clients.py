"""Many cheap WebSocket clients in one process, which note when each alert arrived.

Clients that want all alerts receive the same bytes. So the stream of only one client is parsed. For every other
client the process notes how many bytes had arrived at which time; a checksum shows at the end that they were the same.
"""

from __future__ import annotations

import re
import select
import socket
import sys
import time
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import orjson

from benchmarks.fanout_shared import allow_many_files, expected_deliveries, watch_list

_SEQ = re.compile(rb'"seq":(\d+)')
_GIVE_UP_AFTER_S = 10.0
_READ_BYTES = 1 << 20


class Client:
    """received: (CLOCK_MONOTONIC ns, bytes of frames so far) after each read."""

    __slots__ = ("bytes", "checksum", "received", "socket", "whole")

    def __init__(self, address: tuple[str, int], path: str, keep: bool) -> None:
        self.socket = socket.create_connection(address)
        self.bytes = 0
        self.checksum = 0
        self.received: list[tuple[int, int]] = []
        self.whole = bytearray() if keep else None
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {address[0]}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        self.socket.sendall(request.encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(1)
        if b" 101 " not in head:
            raise ConnectionError(head.decode())
        self.socket.setblocking(False)

    def subscribe(self, symbols: frozenset[str]) -> None:
        """Send the subscription as one masked text frame, with a mask of zeros."""
        said = orjson.dumps({"type": "subscribe", "channel": "alerts", "symbols": sorted(symbols)})
        self.socket.sendall(b"\x81\xfe" + len(said).to_bytes(2, "big") + bytes(4) + said)

    def read(self, buffer: bytearray, view: memoryview) -> None:
        count = self.socket.recv_into(buffer)
        now_ns = time.monotonic_ns()
        if not count:
            raise ConnectionError("the server closed a client")
        self.bytes += count
        self.checksum = zlib.crc32(view[:count], self.checksum)
        self.received.append((now_ns, self.bytes))
        if self.whole is not None:
            self.whole += view[:count]


def receive(url: str, clients: int, alerts: int, watched: int, ready: Path) -> np.ndarray:
    """Touch `ready` when all clients listen. Return (seq, CLOCK_MONOTONIC ns) of all deliveries, shape (2, number)."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    poller = select.epoll()
    by_file: dict[int, Client] = {}
    for n in range(clients):
        client = Client((address.hostname, address.port), address.path, keep=n == 0 or watched > 0)
        if watched:
            client.subscribe(watch_list(n, watched))
        by_file[client.socket.fileno()] = client
        poller.register(client.socket, select.EPOLLIN)
    # the server makes a client a receiver only shortly after its upgrade or subscription
    time.sleep(1.0)
    ready.touch()
    everybody = list(by_file.values())
    expected = expected_deliveries(clients, alerts, watched)
    buffer = bytearray(_READ_BYTES)
    view = memoryview(buffer)
    quiet_since_s = time.monotonic()
    while time.monotonic() - quiet_since_s < _GIVE_UP_AFTER_S:
        events = poller.poll(0.5)
        for file, _ in events:
            by_file[file].read(buffer, view)
        if events:
            quiet_since_s = time.monotonic()
        elif _deliveries(everybody, watched > 0).shape[1] >= expected:
            break
    return _deliveries(everybody, watched > 0)


def _alert_ends(stream: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return the seq and the end of each text frame of the stream that holds an alert."""
    seqs, ends, at = [], [], 0
    while at + 4 <= len(stream):
        length, begin = stream[at + 1], at + 2
        if length == 126:
            length, begin = int.from_bytes(stream[at + 2 : at + 4], "big"), at + 4
        end = begin + length
        if end > len(stream):
            break
        if stream[at] == 0x81 and b'"subscribed"' not in stream[at:end]:
            found = _SEQ.search(stream, at, end)
            assert found is not None
            seqs.append(int(found[1]))
            ends.append(end)
        at = end
    return np.array(seqs, dtype=np.int64), np.array(ends, dtype=np.int64)


def _deliveries(clients: list[Client], each_its_own: bool) -> np.ndarray:
    first = clients[0]
    seqs, ends = _alert_ends(bytes(first.whole or b""))
    found = [np.empty((2, 0), dtype=np.int64)]
    for client in clients:
        if each_its_own:
            seqs, ends = _alert_ends(bytes(client.whole or b""))
        elif client.bytes == first.bytes and client.checksum != first.checksum:
            raise AssertionError("two clients received different bytes")
        times_ns, upto = np.array(client.received, dtype=np.int64).reshape(-1, 2).T
        position = np.searchsorted(upto, ends)
        arrived = position < len(upto)
        found.append(np.stack([seqs[arrived], times_ns[position[arrived]]]))
    return np.concatenate(found, axis=1)


def main() -> None:
    where, clients, alerts, watched, ready, result = sys.argv[1:]
    allow_many_files()
    found = receive(where, int(clients), int(alerts), int(watched), Path(ready))
    unfinished = Path(f"{result}.part")
    with unfinished.open("wb") as file:
        np.save(file, found)
    unfinished.rename(result)


if __name__ == "__main__":
    main()
