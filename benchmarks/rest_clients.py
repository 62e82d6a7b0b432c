"""The clients of the REST benchmark, in a separate process: `rest_clients URL REQUESTS RATE RESULT`.

Requests are sent on schedule whether earlier ones were answered or not, and latency counts from the scheduled time: so
the requests that a stalled server delays count in full.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import aiohttp
import numpy as np
import orjson
import uvloop

from benchmarks.rest_mix import Request

_CONNECTIONS = 64
_START_AFTER_S = 0.5


async def _ask(session: aiohttp.ClientSession, request: Request, known: dict[str, str]) -> tuple[int, int]:
    """Return (status, bytes of the body)."""
    headers = {}
    if request.conditional and request.path in known:
        headers["If-None-Match"] = known[request.path]
    async with session.get(request.path, headers=headers) as response:
        body = await response.read()
        if "ETag" in response.headers:
            known[request.path] = response.headers["ETag"]
        return response.status, len(body)


async def run(url: str, requests: list[Request], rate: float) -> np.ndarray:
    """Send the requests. Return an array of shape (requests, 3): latency in ms, status (0: no answer), bytes."""
    results = np.zeros((len(requests), 3))
    known: dict[str, str] = {}
    timeout = aiohttp.ClientTimeout(total=30)
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:
        for request in requests[:200]:
            await _ask(session, request, known)
        begin_s = time.perf_counter() + _START_AFTER_S

        async def timed(number: int) -> None:
            due_s = begin_s + number / rate
            try:
                status, size = await _ask(session, requests[number], known)
            except (aiohttp.ClientError, TimeoutError):
                status, size = 0, 0
            results[number] = 1000 * (time.perf_counter() - due_s), status, size

        tasks = []
        for number in range(len(requests)):
            pause_s = begin_s + number / rate - time.perf_counter()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            tasks.append(asyncio.create_task(timed(number)))
        await asyncio.gather(*tasks)
    return results


def main() -> None:
    url, requests_file, rate, result = sys.argv[1:]
    requests = [Request(**one) for one in orjson.loads(Path(requests_file).read_bytes())]
    found = uvloop.run(run(url, requests, float(rate)))
    part = Path(f"{result}.part")
    with part.open("wb") as file:
        np.save(file, found)
    part.rename(result)


if __name__ == "__main__":
    main()
