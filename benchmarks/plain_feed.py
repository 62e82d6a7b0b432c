"""A plainly written feed, as the baseline of `benchmarks.feed`: json.loads, and one awaited publication per update.

`python -m benchmarks.plain_feed WS_URL NATS_URL SYMBOLS` prints every second how many updates it has published.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import aiohttp
import nats
from nats.js import JetStreamContext

from benchmarks.feed_server import symbols_of

_STREAMS_PER_CONNECTION = 200
published = 0


async def follow(session: aiohttp.ClientSession, jetstream: JetStreamContext, url: str) -> None:
    global published
    async with session.ws_connect(url) as socket:
        async for message in socket:
            event = json.loads(message.data)["data"]
            kline = event["k"]
            candle = {
                "symbol": kline["s"], "open_time": kline["t"], "close_time": kline["T"], "open": float(kline["o"]),
                "high": float(kline["h"]), "low": float(kline["l"]), "close": float(kline["c"]),
                "volume": float(kline["v"]), "quote_volume": float(kline["q"]), "number_of_trades": kline["n"],
                "closed": kline["x"], "event_time": event["E"],
            }  # fmt: skip
            kind = "candles.1m" if kline["x"] else "candles.live.1m"
            await jetstream.publish(
                f"{kind}.{kline['s']}",
                json.dumps(candle).encode(),
                headers={"Nats-Msg-Id": f"{kline['s']}-{event['E']}-{kline['c']}", "Nats-TTL": "15m"},
            )
            published += 1


async def main() -> None:
    ws_url, nats_url, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    client = await nats.connect(nats_url)
    names = [f"{symbol.lower()}@kline_1m" for symbol in symbols_of(count)]
    async with aiohttp.ClientSession() as session:
        shards = [names[at : at + _STREAMS_PER_CONNECTION] for at in range(0, count, _STREAMS_PER_CONNECTION)]
        tasks = [
            asyncio.create_task(follow(session, client.jetstream(), f"{ws_url}?streams={'/'.join(shard)}"))
            for shard in shards
        ]
        while not any(task.done() for task in tasks):
            print(json.dumps({"at_s": time.monotonic(), "published": published}), flush=True)
            await asyncio.sleep(0.5)
        for task in tasks:
            if task.done():
                task.result()


if __name__ == "__main__":
    asyncio.run(main())
