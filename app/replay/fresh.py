"""A replay needs a namespace of its own: old candles would be taken for repeats, old cooldowns hold alerts back."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition
from nats.js.errors import NotFoundError

from app.errors import SettingsError
from app.ingress.pull import connect, stream_name
from app.kafka_access import kafka_access
from app.settings import Settings
from app.topics import Topics


async def require_fresh_namespace(settings: Settings) -> None:
    """Raises SettingsError if candles or alerts have passed through this namespace before."""
    if await _has_messages(settings) or await _has_alerts(settings):
        raise SettingsError(
            f"namespace {settings.namespace!r} has been used on these servers: a replay into it would take its "
            "candles for repeats; choose another with --namespace, or leave the option out"
        )


async def _has_messages(settings: Settings) -> bool:
    client = await connect(settings, "replay-check")
    try:
        stream = await client.jetstream().stream_info(stream_name(settings))
    except NotFoundError:
        return False
    finally:
        await client.close()
    return stream.state.last_seq > 0


async def _has_alerts(settings: Settings) -> bool:
    topic = TopicPartition(Topics.of(settings).alerts, 0)
    consumer = AIOKafkaConsumer(**kafka_access(settings))
    await consumer.start()
    try:
        ends = await consumer.end_offsets([topic])
    finally:
        await consumer.stop()
    return bool(ends[topic] > 0)
