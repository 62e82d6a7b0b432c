"""A role whose process ends at certain symbols in its input: `python -m tests.support.poisoned_role ROLE`.

EXITUSDT ends it with status 3 where a message or frame is decoded. KILLUSDT (by SIGKILL) and RAISEUSDT (by an
exception) do so where the bridge makes a batch, the sinks write one, or the role market takes a frame for a minute.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import app.bridge.translation as bridge
import app.market_wide.stage as market
import app.sinks.tables as tables
import app.wire.nats.stream as stream
from app.candles.batch import CandleBatch
from app.cli.roles import service_of
from app.clock import ManualClock, SystemClock
from app.market.metrics import MetricsBatch
from app.rules.market.sealing import Sealing
from app.settings import Settings
from app.telemetry.catalogue import RoleRegistry
from tests.support.candle_messages import NOW_MS

real_parse, real_decode, real_write = bridge.parse, tables.decode_candles, tables.write_candles
real_decode_metrics, real_take = market.decode_metrics, Sealing.take


def parse(messages: Sequence[bytes], **given: Any) -> Any:
    for message in messages:
        hurt(message)
        if b"EXITUSDT" in message:
            os._exit(3)
    return real_parse(messages, **given)


def decode(data: bytes) -> Any:
    batch, info = real_decode(data)
    if "EXITUSDT" in batch.symbols:
        os._exit(3)
    return batch, info


def decode_metrics(data: bytes) -> Any:
    batch, info = real_decode_metrics(data)
    if "EXITUSDT" in batch.symbols:
        os._exit(3)
    return batch, info


def take(sealing: Sealing, partition: int, offset: int, batch: MetricsBatch | None) -> int:
    for symbol in batch.symbols if batch else ():
        hurt(symbol.encode())
    return real_take(sealing, partition, offset, batch)


async def write(connection: Any, batch: CandleBatch) -> int:
    for symbol in batch.symbols:
        hurt(symbol.encode())
    return await real_write(connection, batch)


def hurt(text: bytes) -> None:
    if b"KILLUSDT" in text:
        os.kill(os.getpid(), signal.SIGKILL)
    if b"RAISEUSDT" in text:
        raise RuntimeError("what it was")


async def main(role: str) -> None:
    bridge.parse, tables.decode_candles, tables.write_candles = parse, decode, write  # type: ignore[assignment]
    market.decode_metrics, Sealing.take = decode_metrics, take  # type: ignore[method-assign]
    # the messages that a killed bridge held are redelivered this soon
    stream._ACK_WAIT_S = 2.0
    clock = ManualClock(NOW_MS) if role == "bridge" else SystemClock()
    await service_of(role)(Settings.load(), clock, RoleRegistry(role), asyncio.Event(), None)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
