"""An exchange that only sends kline frames, for `benchmarks.feed`: Binance's protocol, as cheap as possible.

The frames of all streams of a connection are written together, so that this process needs a fraction of its reader's
CPU time. `python -m benchmarks.feed_server PORT SYMBOLS UPDATES_PER_S`, the last 0 for as fast as the reader can.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from typing import Any

from aiohttp import web

from app.candles.batch import MINUTE_MS

_FRAME = (
    b'{"stream":"%b@kline_1m","data":{"e":"kline","E":%d,"s":"%b","k":{"t":%d,"T":%d,"s":"%b","i":"1m",'
    b'"f":126902874,"L":126902924,"o":"7.6080","c":"7.%04d","h":"7.9999","l":"7.0000","v":"1458","n":51,"x":false,'
    b'"q":"11096.6410","V":"715","Q":"5441.3360","B":"0"}}}'
)


def symbols_of(count: int) -> list[str]:
    return [f"SIM{number:04}USDT" for number in range(count)]


def websocket_frame(payload: bytes) -> bytes:
    """Return an unmasked text frame of 126 to 65,535 bytes (RFC 6455)."""
    return b"\x81\x7e" + struct.pack("!H", len(payload)) + payload


class Server:
    def __init__(self, symbols: int, updates_per_s: float) -> None:
        self._symbols = symbols_of(symbols)
        self._updates_per_s = updates_per_s

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/fapi/v1/exchangeInfo", self.info)
        app.router.add_get("/fapi/v1/ticker/24hr", self.tickers)
        app.router.add_get("/fapi/v1/time", self.time)
        app.router.add_get("/fapi/v1/klines", self.klines)
        app.router.add_get("/market/stream", self.stream)
        return app

    async def info(self, _: web.Request) -> web.Response:
        onboard_ms = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS
        common = {
            "contractType": "PERPETUAL",
            "quoteAsset": "USDT",
            "status": "TRADING",
            "onboardDate": onboard_ms,
        }
        symbols = [{"symbol": symbol, **common} for symbol in self._symbols]
        return web.json_response({"symbols": symbols, "rateLimits": []})

    async def tickers(self, _: web.Request) -> web.Response:
        return web.json_response([])

    async def time(self, _: web.Request) -> web.Response:
        return web.json_response({"serverTime": int(time.time() * 1000)})

    async def klines(self, _: web.Request) -> web.Response:
        return web.json_response([])

    async def stream(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        names = [name.partition("@")[0] for name in request.query["streams"].split("/")]
        if names == ["!ticker"]:
            async for _ in socket:
                pass
            return socket
        sending = asyncio.create_task(self._send(request, socket, [name.encode() for name in names]))
        async for _ in socket:
            pass
        sending.cancel()
        return socket

    async def _send(self, request: web.Request, socket: Any, names: list[bytes]) -> None:
        transport = request.transport
        assert transport is not None
        due_s, sent = time.monotonic(), 0
        while not socket.closed:
            data, rounds = self._round(names, sent)
            sent += rounds
            transport.write(data)
            if not self._updates_per_s:
                # backpressure: write only as fast as the reader empties the socket
                while transport.get_write_buffer_size() > 1_000_000:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0)
                continue
            due_s += rounds / self._updates_per_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    def _round(self, names: list[bytes], sent: int) -> tuple[bytes, int]:
        """Return one update of each stream, all with the same event time."""
        now_ms = int(time.time() * 1000)
        open_ms = now_ms // MINUTE_MS * MINUTE_MS
        frames = []
        for name in names:
            symbol = name.upper()
            values = (name, now_ms, symbol, open_ms, open_ms + MINUTE_MS - 1, symbol, sent % 10_000)
            frames.append(websocket_frame(_FRAME % values))
        return b"".join(frames), 1


def main() -> None:
    port, symbols, updates_per_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    web.run_app(
        Server(symbols, updates_per_s).application(), host="127.0.0.1", port=port, print=None,
        access_log=None, max_line_size=64 * 1024,
    )  # fmt: skip


if __name__ == "__main__":
    main()
