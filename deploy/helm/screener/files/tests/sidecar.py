"""What `helm test` runs: health of every dependency, the REST API and the WebSocket, as a client sees them."""

import asyncio
import os
import sys

import aiohttp


async def main() -> None:
    base = os.environ["SIDECAR_URL"]
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(base, timeout=timeout) as session:
        for path in ("/health/ready", "/api/health", "/api/alerts?limit=1", "/api/openapi.json"):
            async with session.get(path) as answer:
                text = await answer.text()
                print(f"{answer.status} {path} {text[:300]}")
                if answer.status != 200:
                    sys.exit(f"{path} answered {answer.status}")
        async with session.ws_connect("/ws/alerts", heartbeat=5) as socket:
            await socket.ping()
            print("101 /ws/alerts")


asyncio.run(main())
