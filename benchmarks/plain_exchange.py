"""The baseline for the simulated exchange: aiohttp, which encodes each update as JSON and sends it with `send_str`.

    python -m benchmarks.plain_exchange PORT SYMBOLS UPDATES_PER_S

It has no market and no REST: every candle is the same, so it does less.
"""

from __future__ import annotations

import asyncio
import sys
import time

import orjson
import uvloop
from aiohttp import web

sockets: dict[str, web.WebSocketResponse] = {}


async def stream(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    for name in request.query["streams"].split("/"):
        sockets[name] = socket
    async for _ in socket:
        pass
    return socket


async def state(_: web.Request) -> web.Response:
    return web.json_response({"events_sent": sent})


def event(name: str) -> str:
    symbol, now_ms = name.partition("@")[0].upper(), int(time.time() * 1000)
    open_ms = now_ms // 60_000 * 60_000
    kline = {
        "t": open_ms, "T": open_ms + 59_999, "s": symbol, "i": "1m", "f": 126902874, "L": 126902924,
        "o": f"{7.608:.4f}", "c": f"{7.612:.4f}", "h": f"{7.612:.4f}", "l": f"{7.607:.4f}", "v": f"{1458:.0f}",
        "n": 51, "x": False, "q": f"{11096.641:.4f}", "V": f"{715:.0f}", "Q": f"{5441.336:.4f}", "B": "0",
    }  # fmt: skip
    data = {"e": "kline", "E": now_ms, "s": symbol, "k": kline}
    return orjson.dumps({"stream": name, "data": data}).decode()


sent = 0


async def main(port: int, updates_per_s: float) -> None:
    global sent
    app = web.Application()
    app.router.add_get("/stream", stream)
    app.router.add_get("/sim/state", state)
    runner = web.AppRunner(app, access_log=None, max_line_size=65_536)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    due_s = time.monotonic()
    while True:
        for name, socket in list(sockets.items()):
            await socket.send_str(event(name))
            sent += 1
        due_s = max(due_s + 1 / updates_per_s, time.monotonic() - 1)
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[3])))
