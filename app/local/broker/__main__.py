"""`python -m app.local.broker`: run the broker until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
from pathlib import Path
from uuid import uuid4

import click
import uvloop

from app.clock import SystemClock
from app.local.broker.login import User
from app.local.broker.server import Broker
from app.local.broker.topics import TopicLogs
from app.process.interrupts import stop_signals


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, required=True)
@click.option("--user", required=True, help="Who alone is served.")
@click.option("--password-file", type=click.Path(path_type=Path), required=True)
@click.option("--directory", type=click.Path(path_type=Path), required=True, help="For files of records.")
@click.option("--max-bytes", type=int, default=1 << 30, show_default=True, help="Of all records.")
def main(host: str, port: int, user: str, password_file: Path, directory: Path, max_bytes: int) -> None:
    """A Kafka broker for laptops and tests, whose topics end with it."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    served = User(user, password_file.read_text().strip())
    topics = TopicLogs(max_bytes, directory)
    uvloop.run(_run(Broker(host, port, uuid4().hex, topics, served, SystemClock())))


async def _run(broker: Broker) -> None:
    with stop_signals() as stop:
        await broker.start()
        logging.getLogger(__name__).info("ready")
        await stop.wait()
        await broker.close()


if __name__ == "__main__":
    main()
