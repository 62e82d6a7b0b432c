"""`python -m app.stack.broker`: run the broker until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal
from uuid import uuid4

import click
import uvloop

from app.clock import SystemClock
from app.stack.broker.server import Broker


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, required=True)
@click.option("--memory-max-bytes", type=int, default=1 << 30, show_default=True)
def main(host: str, port: int, memory_max_bytes: int) -> None:
    """A Kafka broker in memory, for laptops and tests."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    uvloop.run(_run(Broker(host, port, uuid4().hex, memory_max_bytes, SystemClock())))


async def _run(broker: Broker) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await broker.start()
    logging.getLogger(__name__).info("ready")
    await stop.wait()
    await broker.close()


if __name__ == "__main__":
    main()
