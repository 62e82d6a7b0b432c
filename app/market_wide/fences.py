"""Fences under way: frames without rows that a partition passes on behind its candles, and the wait for them.

A partition that neither sends records nor returns its fence is not awaited for ever: the minute is then sealed without
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

import structlog

from app.candles.batch import CandleBatch
from app.process.tasks import ended
from app.rules.market.sealing import Fence, Sealing
from app.telemetry import MarketMetrics
from app.wire.frames import FrameInfo, encode_candles

log = structlog.get_logger("market")


@dataclass(slots=True)
class _Asked:
    """A fence under way. heard_s: when it was asked for, or when its partition last sent a record (loop time)."""

    identifier: str
    fence: Fence
    heard_s: float


class Fences:
    """Sends the fences that a sealing asks for, and tells it which have passed."""

    def __init__(
        self,
        send: Callable[[int, bytes], Awaitable[None]],
        all_entered: Callable[[], Awaitable[None]],
        wait_s: float,
        metrics: MarketMetrics,
    ) -> None:
        """send: puts a record into a partition of [ingress]. all_entered: returns once every candle that was published
        until now is in [ingress]. wait_s: how long a partition may be silent, and `all_entered` may take."""
        self._send = send
        self._all_entered = all_entered
        self._wait_s = wait_s
        self._metrics = metrics
        self._asked: dict[int, _Asked] = {}
        self._senders: set[asyncio.Task[None]] = set()

    def forget(self) -> None:
        """Forget the fences under way: they were for another sealing."""
        self._asked = {}

    def heard(self, sealing: Sealing, partition: int, frame_id: str) -> None:
        """Note a frame of a partition, which may be the fence."""
        asked = self._asked.get(partition)
        if asked is None:
            return
        asked.heard_s = asyncio.get_running_loop().time()
        if asked.identifier == frame_id:
            del self._asked[partition]
            sealing.passed(partition, asked.fence)

    async def send(self, sealing: Sealing) -> None:
        """Send the fences that are needed now, and give up those of silent partitions. Raises errors of sending."""
        now_s = asyncio.get_running_loop().time()
        self._give_up(sealing, now_s)
        for sender in [sender for sender in self._senders if sender.done()]:
            self._senders.discard(sender)
            sender.result()
        behind_all: dict[int, str] = {}
        for partition, fence in sealing.fences().items():
            identifier = uuid4().hex
            self._asked[partition] = _Asked(identifier, fence, now_s)
            if fence.event_ts_ms is None:
                await self._send(partition, fence_frame(identifier))
            else:
                behind_all[partition] = identifier
        if behind_all:
            self._senders.add(asyncio.create_task(self._send_behind_all(behind_all), name="market-fences"))

    async def close(self) -> None:
        await ended(*self._senders)

    def _give_up(self, sealing: Sealing, now_s: float) -> None:
        for partition, asked in list(self._asked.items()):
            if now_s - asked.heard_s > self._wait_s:
                log.warning("market_not_waiting", partition=partition, for_s=round(now_s - asked.heard_s))
                self._metrics.partitions_not_awaited.inc()
                del self._asked[partition]
                sealing.passed(partition, asked.fence)

    async def _send_behind_all(self, identifiers: Mapping[int, str]) -> None:
        """Send fences (by partition) once all that is published is in [ingress]. Candles that a killed bridge had not
        acknowledged enter only when NATS delivers them again, behind candles of later minutes."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._all_entered()
        except TimeoutError:
            log.warning("market_not_waiting_for_nats", for_s=self._wait_s)
            self._metrics.partitions_not_awaited.inc(len(identifiers))
        now_s = asyncio.get_running_loop().time()
        for partition, identifier in identifiers.items():
            asked = self._asked.get(partition)
            if asked is not None and asked.identifier == identifier:
                asked.heard_s = now_s
                await self._send(partition, fence_frame(identifier))


def fence_frame(identifier: str) -> bytes:
    """Return a frame without candles: collector and calculator pass it on under its id, other readers ignore it."""
    return encode_candles(CandleBatch.empty(), FrameInfo(frame_id=identifier))
