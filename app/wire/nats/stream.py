"""The stream of candles on NATS and the bridges' consumer of it: connections, creation, and a probe."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from nats.aio.client import Client
from nats.errors import Error, NoServersError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from app.errors import ServerError, ServerUnreachable
from app.library_internals import any_bytes_client
from app.settings.access import Namespace, NatsAccess
from app.wire.retry import OutageLog, retried

_CONNECT_TIMEOUT_S = 5.0
API_TIMEOUT_S = 2.0
_KEPT_S = 48 * 3600
_ACK_WAIT_S = 30.0
DURABLE = "bridge"
_NOT_CLUSTERED: Final = 10_074
"""JetStream's own code for a request of more than one copy from a server that is alone."""
log = structlog.get_logger("nats")


def consumer_options() -> dict[str, Any]:
    """Return the options of the bridges' consumer, as `ConsumerConfig` takes them."""
    return {
        "durable_name": DURABLE,
        "deliver_policy": DeliverPolicy.ALL,
        "ack_policy": AckPolicy.EXPLICIT,
        "ack_wait": _ACK_WAIT_S,
        "max_deliver": -1,
        "max_ack_pending": 100_000,
    }


def stream_name(namespace: Namespace, plain: str = "candles") -> str:
    """Return `CANDLES`, or `NS_CANDLES` in a namespace."""
    return namespace.name(plain).replace(".", "_").upper()


def probe_subject(namespace: Namespace) -> str:
    """Return the subject of messages that only test the stream."""
    return namespace.name("candles.probe")


async def connect(url: str, name: str) -> Client:
    """Return a connection that reconnects for ever; `name` is how the server lists it.

    Raises ServerUnreachable if the first attempt fails.
    """
    client = any_bytes_client()()
    async with AsyncExitStack() as unless_connected:
        # the client leaves a connection open that failed, or was cancelled, half way
        unless_connected.push_async_callback(client.close)
        try:
            # with reconnects without end the first connection would be tried without end too
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await client.connect(
                    url,
                    name=name,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=1,
                    connect_timeout=3,
                    allow_reconnect=True,
                    error_cb=_ignore_until_reconnected,
                )
        except (NoServersError, OSError, TimeoutError) as error:
            raise ServerUnreachable(
                f"NATS does not answer: {error!r}; "
                "set SCREENER_NATS_URL to nats://host:port of a server with JetStream"
            ) from error
        unless_connected.pop_all()
    return client


def closed_by_server(client: Client) -> str:
    """Return the error for a connection that will not reopen: the server refused it or a message on it."""
    return f"NATS closed the connection for good: {client.last_error!r}; see the log of its server"


async def _ignore_until_reconnected(error: Exception) -> None:
    """Ignore: nats-py reports every failed attempt here, and health shows the connection's state."""


async def await_stream(
    client: Client,
    namespace: Namespace,
    replicas: int,
    stop: asyncio.Event | None = None,
    *,
    consumer: bool = False,
) -> None:
    """Call `ensure_stream`, and with `consumer` also `ensure_consumer`; wait as long as JetStream
    does not answer, as while a cluster elects a leader.

    Raises ServerUnreachable when `stop` is set or the server has closed the connection for good.
    """

    async def ensure() -> None:
        await ensure_stream(client, namespace, replicas)
        if consumer:
            await ensure_consumer(client, namespace)

    outage = OutageLog(log, "stream_not_available", stream=stream_name(namespace))
    try:
        await retried(ensure, outage, stop=stop, heals=lambda error: _waits(client, error))
    except (Error, TimeoutError) as error:
        said = closed_by_server(client) if client.is_closed else f"JetStream does not answer: {error!r}"
        raise ServerUnreachable(said) from error


def _waits(client: Client, error: BaseException) -> bool:
    return isinstance(error, (Error, TimeoutError)) and not client.is_closed


async def ensure_stream(client: Client, namespace: Namespace, replicas: int = 1) -> None:
    """Create the stream if it is missing. An existing one keeps its limits, but is set to accept messages
    with their own time to live, and gets more copies if it has fewer than `replicas`.

    Raises ServerError if the server is alone and more than one copy is wanted, else the client's errors.
    """
    jetstream = client.jetstream(timeout=API_TIMEOUT_S)
    try:
        config = (await jetstream.stream_info(stream_name(namespace))).config
    except NotFoundError:
        await _add_stream(jetstream, namespace, replicas)
    else:
        if not config.allow_msg_ttl:
            config = (await jetstream.update_stream(config, allow_msg_ttl=True)).config
            _tell_of_no_ttl(config)
        if (config.num_replicas or 1) < replicas:
            await _add_copies(jetstream, config, replicas)


async def _add_stream(jetstream: JetStreamContext, namespace: Namespace, replicas: int) -> None:
    # by age only: any limit on numbers or bytes would drop closed candles that the bridge has not read
    config = StreamConfig(
        name=stream_name(namespace),
        subjects=[namespace.name("candles.>")],
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        max_age=_KEPT_S,
        allow_msg_ttl=True,
        duplicate_window=120,
        num_replicas=replicas,
    )
    try:
        _tell_of_no_ttl((await jetstream.add_stream(config)).config)
    except APIError as error:
        if error.err_code == _NOT_CLUSTERED:
            raise ServerError(
                f"NATS is one server and cannot keep {replicas} copies of the stream; "
                "set SCREENER_NATS_REPLICAS to 1, or the URL to a cluster"
            ) from error
        raise


def _tell_of_no_ttl(config: StreamConfig) -> None:
    """Warn if the stream takes no time to live: NATS before 2.11 ignores options that it does not know."""
    if not config.allow_msg_ttl:
        log.warning("stream_keeps_forming_candles", stream=config.name, kept_s=config.max_age)


async def _add_copies(jetstream: JetStreamContext, config: StreamConfig, replicas: int) -> None:
    """Add copies of the stream; its consumers follow it. A cluster that lacks a server keeps the copies that it has:
    candles flow on."""
    try:
        await jetstream.update_stream(config, allow_msg_ttl=True, num_replicas=replicas)
    except APIError as error:
        log.warning(
            "stream_copies_not_added", stream=config.name, copies=config.num_replicas, said=error.description
        )
    else:
        log.info("stream_copies_added", stream=config.name, copies=replicas)


async def ensure_consumer(client: Client, namespace: Namespace) -> None:
    """Create the bridges' consumer if it is missing, which then reads from the beginning of the stream."""
    jetstream = client.jetstream(timeout=API_TIMEOUT_S)
    try:
        # JetStream does not let the start of an existing consumer be changed
        await jetstream.consumer_info(stream_name(namespace), DURABLE)
    except NotFoundError:
        await jetstream.add_consumer(stream_name(namespace), ConsumerConfig(**consumer_options()))


async def rewind(client: Client, namespace: Namespace, seconds: float) -> None:
    """Let the bridges, which must be stopped, read again the messages of the last `seconds`."""
    jetstream = client.jetstream(timeout=API_TIMEOUT_S)
    await ensure_stream(client, namespace)
    with suppress(NotFoundError):
        await jetstream.delete_consumer(stream_name(namespace), DURABLE)
    begin = {
        "deliver_policy": DeliverPolicy.BY_START_TIME,
        "opt_start_time": datetime.now(UTC) - timedelta(seconds=seconds),
    }
    await jetstream.add_consumer(stream_name(namespace), ConsumerConfig(**consumer_options() | begin))


async def probe_stream(nats: NatsAccess) -> None:
    """Check that JetStream still stores messages: with a full disk it answers requests and rejects messages.

    Stores an empty message, kept for a second and passed over by bridges, in the stream of candles; the other
    streams of a server may continue where one is broken. Returns also if the stream does not exist yet.

    Raises the client's errors."""
    client = await connect(nats.url, "probe")
    try:
        jetstream = client.jetstream(timeout=API_TIMEOUT_S)
        try:
            config = (await jetstream.stream_info(stream_name(nats.namespace))).config
        except NotFoundError:
            return
        lifetime = {"Nats-TTL": "1s"} if config.allow_msg_ttl else None
        await jetstream.publish(probe_subject(nats.namespace), b"", headers=lifetime)
    finally:
        await client.close()
