"""The baseline of the REST benchmark: plain aiohttp handlers that `json.dumps` objects in memory.

There is no database, no reading of parameters, no limit and no ETag: the objects were fetched from the sidecar before,
and each request only looks one up and encodes it as JSON. `plain_rest PORT OBJECTS`
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import uvloop
from aiohttp import web


async def serve(port: int, objects: dict[str, object]) -> None:
    async def answer(request: web.Request) -> web.Response:
        found = objects.get(request.path_qs)
        return web.json_response(found, status=404 if found is None else 200)

    async def ready(_: web.Request) -> web.Response:
        return web.json_response({"ready": True})

    app = web.Application()
    app.router.add_get("/health/ready", ready)
    app.router.add_get("/api/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_bytes())))
