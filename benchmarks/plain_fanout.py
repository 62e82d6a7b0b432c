"""The baseline for the fan-out: aiohttp, which sends each alert to each client that wants it with `send_str`."""

from __future__ import annotations

import os

import orjson
import uvloop
from aiohttp import WSMsgType, web
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.wire.kafka import client_options_at
from benchmarks.fanout_shared import allow_many_files, keep_to_core

clients: dict[web.WebSocketResponse, frozenset[str] | None] = {}
"""Client -> symbols it wants; None for all."""


async def alerts(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    clients[socket] = None if request.path == "/ws/alerts" else frozenset()
    try:
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                break
            clients[socket] = frozenset(orjson.loads(message.data)["symbols"])
    finally:
        del clients[socket]
    return socket


async def ready(_: web.Request) -> web.Response:
    return web.Response()


async def main() -> None:
    keep_to_core()
    allow_many_files()
    app = web.Application()
    app.router.add_get("/ws/alerts", alerts)
    app.router.add_get("/ws", alerts)
    app.router.add_get("/health/ready", ready)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["PLAIN_PORT"])).start()
    consumer = AIOKafkaConsumer(**client_options_at(os.environ["PLAIN_KAFKA"]))
    await consumer.start()
    partition = TopicPartition(os.environ["PLAIN_TOPIC"], 0)
    consumer.assign([partition])
    consumer.seek(partition, int(os.environ["PLAIN_START"]))
    async for record in consumer:
        alert = orjson.loads(record.value)
        text = orjson.dumps({**alert, "seq": record.offset}).decode()
        for socket, wanted in tuple(clients.items()):
            if wanted is None or alert["symbol"] in wanted:
                await socket.send_str(text)


if __name__ == "__main__":
    uvloop.run(main())
