"""How far the bridges are in the stream of candles, as the NATS server says."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

import structlog
from nats.aio.client import Client
from nats.errors import Error
from nats.js.errors import NotFoundError

from app.settings.access import Namespace, NatsAccess
from app.telemetry import NatsMetrics
from app.wire.nats.stream import API_TIMEOUT_S, DURABLE, connect, stream_name
from app.wire.retry import Backoff, OutageLog, retried

_PENDING_EVERY_S: Final = 5.0
_ENTERED_EVERY: Final = Backoff(0.01, 0.25)

log = structlog.get_logger("nats")


class Position(NamedTuple):
    """last: number of the stream's last message. acknowledged: number of the message up to which the bridges have
    acknowledged all."""

    last: int
    acknowledged: int


async def position(client: Client, namespace: Namespace) -> Position | None:
    """Return how far the bridges are; None without a stream or consumer. Raises the client's errors."""
    jetstream = client.jetstream(timeout=API_TIMEOUT_S)
    try:
        consumer = await jetstream.consumer_info(stream_name(namespace), DURABLE)
        stream = await jetstream.stream_info(stream_name(namespace))
    except NotFoundError:
        return None
    last, waiting = stream.state.last_seq, (consumer.num_pending or 0) + (consumer.num_ack_pending or 0)
    if not waiting or consumer.ack_floor is None:
        # messages that expired were never acknowledged
        return Position(last, last)
    return Position(last, min(last, consumer.ack_floor.stream_seq))


async def bridge_position(nats: NatsAccess) -> Position | None:
    """Return `position`, read over a connection of its own."""
    client = await connect(nats.url, "position")
    try:
        return await position(client, nats.namespace)
    finally:
        await client.close()


async def note_pending(client: Client, namespace: Namespace, metrics: NatsMetrics) -> None:
    """Poll every few seconds how many messages the bridges still have to process, until cancelled."""
    jetstream = client.jetstream(timeout=API_TIMEOUT_S)
    while True:
        try:
            consumer = await jetstream.consumer_info(stream_name(namespace), DURABLE)
        except (Error, TimeoutError):
            # unreachable, or being created again: health shows that, and the gauge keeps its last value
            pass
        else:
            waiting = (consumer.num_pending or 0) + (consumer.num_ack_pending or 0)
            metrics.pending.set(waiting)
        await asyncio.sleep(_PENDING_EVERY_S)


class Entered:
    """Waits until published messages are in [ingress], over one connection that is opened when it is first needed."""

    def __init__(self, nats: NatsAccess) -> None:
        self._nats = nats
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._unknown = OutageLog(log, "bridge_position_unknown")

    async def everything(self) -> None:
        """Return once the bridges have acknowledged all messages that were in the stream when this was called: they do
        so when Kafka has them. Waits through outages of NATS."""
        wanted: int | None = None
        asked = 0
        while (found := await retried(self._position, self._unknown)) is not None:
            wanted = found.last if wanted is None else wanted
            if found.acknowledged >= wanted:
                return
            asked += 1
            await asyncio.sleep(_ENTERED_EVERY.wait_s(asked))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _position(self) -> Position | None:
        async with self._connecting:
            if self._client is None or self._client.is_closed:
                self._client = await connect(self._nats.url, "entered")
        return await position(self._client, self._nats.namespace)
