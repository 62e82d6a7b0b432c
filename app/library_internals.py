"""All that the code uses of libraries beyond their public interfaces, each with the reason.

`tests/unit/test_library_internals.py` fails when a new version of a library changes one of them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.protocol.api import Request
    from faust.transport.consumer import RecordMap
    from faust.transport.drivers.aiokafka import Consumer
    from faust.types import TP
    from nats.aio.client import Client


_MESSAGE_LINE: Final = rb"\A%b[ \t]+([^ \t\r\n]+)[ \t]+([^ \t\r\n]+)[ \t]+(([^ \t\r\n]+)[ \t]+)?%b(\d+)\r\n"
"""nats-py's own pattern, except that only spaces and tabs end a word, as in the server."""


def label_names(family: MetricWrapperBase) -> tuple[str, ...]:
    """prometheus_client: a family shows its label names only through its samples, and may have no sample."""
    names: tuple[str, ...] = family._labelnames
    return names


def bucket_bounds(family: Histogram) -> list[float]:
    """prometheus_client: as `label_names`, of a histogram's buckets."""
    return [float(bound) for bound in family._kwargs["buckets"]]


def server_loop(server: web.Server) -> asyncio.AbstractEventLoop:
    """aiohttp: `web.Server` has no public event loop."""
    return server._loop


def handler_options(server: web.Server) -> dict[str, Any]:
    """aiohttp: the arguments `web.Server` gives to each handler; a replacement server must give the same."""
    return server._kwargs


def reads_head(handler: RequestHandler) -> bool:
    """aiohttp: whether a handler waits for its next request or is in the middle of that request's head."""
    return handler._waiter is not None and not handler._waiter.done()


def is_upgraded(handler: RequestHandler) -> bool:
    """aiohttp: whether a connection is a WebSocket by now."""
    return handler._upgraded


class HookedRunner(web.AppRunner):
    """aiohttp: a runner makes its server, and ends it, in private methods, and takes no other server."""

    __slots__ = ()

    async def replace_server(self, made: web.Server) -> web.Server:
        """Return the server to use in place of the one that aiohttp made."""
        return made

    async def before_cleanup(self) -> None:
        """Run before the server ends."""

    async def _make_server(self) -> web.Server:
        return await self.replace_server(await super()._make_server())

    async def _cleanup_server(self) -> None:
        await self.before_cleanup()
        await super()._cleanup_server()


async def close_client(consumer: AIOKafkaConsumer) -> None:
    """aiokafka: a `stop` that ends as cancelled leaves the connections open, and cannot be called again."""
    await consumer._client.close()


async def send_to_node(admin: AIOKafkaAdminClient, node: int, request: Request) -> Any:
    """aiokafka: the admin client has no public way to delete consumer groups."""
    return await admin._send_request_to_node(node, request)


async def knows_controller(admin: AIOKafkaAdminClient) -> bool:
    """aiokafka: the admin client sends requests to the controller without a look whether the broker has named one, and
    raises AttributeError if not."""
    client = admin._client
    if client.cluster.controller is None:
        await client.force_metadata_update()
    return client.cluster.controller is not None


def client_of_producer(producer: Any) -> Any:
    """Faust: the AIOKafkaProducer below a producer, which takes whole batches."""
    return producer._producer


def committed_offset(consumer: Any, tp: TP) -> int | None:
    """Faust: the last committed offset as the consumer remembers it; its public methods ask the broker."""
    offset: int | None = consumer._committed_offset.get(tp)
    return offset


def rearm_expiry(table: Any, key: Any, partition: int) -> None:
    """Faust: enters a key into a windowed table's expiry index, which Faust does on writes only."""
    table._maybe_set_key_ttl(table._to_key(key), partition)


def filter_recovery(table: Any, wanted: Callable[[Iterable[Any]], list[Any]]) -> None:
    """Faust: a recovering table applies only the wanted records of its changelog; Faust takes the last of a key."""
    apply = table.apply_changelog_batch
    table.apply_changelog_batch = lambda batch: apply(wanted(batch))


def snapshot_consumer() -> type[Consumer]:
    """Faust: a consumer that fetches from the partitions that were active at the time of the request, and that does not
    take a topic that it does not know yet for one without partitions.

    Faust hands its own, changing set to the thread that fetches. When recovery pauses the changelogs meanwhile,
    the set is empty. aiokafka reads an empty set as every partition, and Faust drops the records of the others.
    Faust then returns to committed offsets, so without a commit (a worker that died before its first one)
    these records would never be processed.

    A broker may confirm a new changelog before it shows it. aiokafka counts 0 partitions of it until then. Faust
    compares this number with that of the stage's topic, and would end the worker at its first write.
    """
    # here: only workers need Faust, which takes long to import
    from faust.transport.drivers.aiokafka import Consumer

    class SnapshotConsumer(Consumer):
        async def _getmany(
            self,
            active_partitions: set[TP] | None,
            timeout: float,  # noqa: ASYNC109  # reason: Faust's signature
        ) -> RecordMap:
            wanted = None if active_partitions is None else set(active_partitions)
            return await super()._getmany(wanted, timeout)

        def topic_partitions(self, topic: str) -> int | None:
            return super().topic_partitions(topic) or None

    return SnapshotConsumer


_NO_STATUS: Final = b"NATS/1.0\r\n"


def any_bytes_client() -> type[Client]:
    """nats-py: a message whose subject or headers are not text ends the task that reads the connection. A vertical
    tab or form feed in its subject, which the server accepts, ends the connection. JetStream redelivers the message
    without end, so a single one would stop its consumers for ever.

    Of headers only a server's status is read: our readers need no other, and parsing them costs a tenth of the
    bridge's time."""
    # here: few processes need NATS
    from nats.aio.client import Client
    from nats.protocol import parser

    parser.MSG_RE = re.compile(_MESSAGE_LINE % (b"MSG", b""))
    parser.HMSG_RE = re.compile(_MESSAGE_LINE % (b"HMSG", rb"(\d+)[ \t]+"))

    class AnyBytesClient(Client):
        def _build_message(
            self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
        ) -> Any:
            if not subject.isascii():
                subject = subject.decode("utf-8", "backslashreplace").encode()
            return super()._build_message(sid, subject, reply, data, headers)

        async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
            if headers is not None and headers.startswith(_NO_STATUS):
                return None
            try:
                return await super()._process_headers(headers)
            except (IndexError, UnicodeDecodeError):
                return None

    return AnyBytesClient


def writes_whole(client: type[Client]) -> bool:
    """nats-py: whether `write_whole` works with this version."""
    return hasattr(client, "_send_command") and hasattr(client, "_flush_pending")


async def write_whole(client: Client, commands: bytes) -> None:
    """nats-py: many messages handed over at once; `publish` takes one, and flushes after each."""
    await client._send_command(commands)
    await client._flush_pending()
