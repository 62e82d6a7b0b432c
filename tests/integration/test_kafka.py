"""Topics made to measure on a real broker, and what is said when that cannot be."""

from __future__ import annotations

import re

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.cluster import ClusterMetadata

from app.errors import ServerError, ServerUnreachable, SettingsError
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import free_port
from app.replay.namespace import require_fresh_namespace
from app.settings import Settings
from app.wire.kafka import client_options, ensure_topics, kafka_producer
from app.wire.topics import Topics
from tests.support.servers import settings_for


async def partitions(settings: Settings) -> dict[str, int]:
    topics = Topics.of(settings.names())
    names = [topics.ingress, topics.candles, topics.metrics, topics.alerts, topics.dead_letters]
    admin = AIOKafkaAdminClient(**client_options(settings.kafka()))
    await admin.start()
    try:
        found = await admin.describe_topics(names)
    finally:
        await admin.close()
    return {topic["topic"]: len(topic["partitions"]) for topic in found}


async def test_frames_get_the_wanted_partitions_and_alerts_and_dead_letters_one(settings: Settings):
    settings = settings.model_copy(update={"partitions": 3})
    topics = Topics.of(settings.names())
    await ensure_topics(settings.kafka())
    assert await partitions(settings) == {
        topics.ingress: 3,
        topics.candles: 3,
        topics.metrics: 3,
        topics.alerts: 1,
        topics.dead_letters: 1,
    }


async def test_asking_again_is_harmless(settings: Settings):
    await ensure_topics(settings.kafka())
    before = await partitions(settings)
    await ensure_topics(settings.kafka())
    assert await partitions(settings) == before


async def test_another_number_of_partitions_is_refused_with_advice(settings: Settings):
    await ensure_topics(settings.kafka())
    with pytest.raises(SettingsError) as caught:
        await ensure_topics(settings.model_copy(update={"partitions": 5}).kafka())
    text = str(caught.value)
    assert f"{Topics.of(settings.names()).ingress} has 2, needs 5" in text
    assert "SCREENER_PARTITIONS" in text
    assert "SCREENER_NAMESPACE" in text
    assert Topics.of(settings.names()).alerts + " has" not in text


@pytest.mark.filterwarnings("ignore:Unclosed AIOKafka:ResourceWarning")
async def test_a_wrong_url_names_the_setting(settings: Settings):
    url = f"127.0.0.1:{free_port()}"
    wrong = settings.model_copy(update={"kafka_url": url})
    with pytest.raises(ServerUnreachable, match=f"{re.escape(url)}.*SCREENER_KAFKA_URL"):
        await ensure_topics(wrong.kafka())
    with pytest.raises(ServerUnreachable, match=f"{re.escape(url)}.*SCREENER_KAFKA_URL"):
        async with kafka_producer(wrong.kafka()):
            pass


async def test_a_broker_that_names_no_controller_is_called_away(settings: Settings, monkeypatch):
    no_controller = property(lambda _: None, lambda *_: None)
    monkeypatch.setattr(ClusterMetadata, "controller", no_controller, raising=False)
    with pytest.raises(ServerUnreachable, match=r"it names no controller.*SCREENER_KAFKA_URL"):
        await ensure_topics(settings.kafka())


async def test_a_producer_delivers_to_the_partition_it_is_told(settings: Settings):
    await ensure_topics(settings.kafka())
    async with kafka_producer(settings.kafka()) as producer:
        for partition in (1, 0, 1):
            sent = await producer.send_and_wait(
                Topics.of(settings.names()).ingress, b"x", partition=partition
            )
            assert sent.partition == partition
    assert issubclass(ServerUnreachable, ServerError)


async def test_the_embedded_broker_numbers_new_alerts_on_from_those_stored(stack: EmbeddedStack):
    settings = settings_for(stack.urls)
    await ensure_topics(settings.kafka(), first_seq=41)
    async with kafka_producer(settings.kafka()) as producer:
        sent = await producer.send_and_wait(Topics.of(settings.names()).alerts, b"{}", partition=0)
    assert sent.offset == 41
    await ensure_topics(settings.kafka(), first_seq=7)
    async with kafka_producer(settings.kafka()) as producer:
        sent = await producer.send_and_wait(Topics.of(settings.names()).alerts, b"{}", partition=0)
    assert sent.offset == 42


async def test_a_replay_refuses_a_namespace_through_which_alerts_have_passed(settings: Settings):
    await ensure_topics(settings.kafka())
    await require_fresh_namespace(settings.nats(), settings.kafka())
    async with kafka_producer(settings.kafka()) as producer:
        await producer.send_and_wait(Topics.of(settings.names()).alerts, b"{}", partition=0)
    with pytest.raises(SettingsError, match=settings.namespace):
        await require_fresh_namespace(settings.nats(), settings.kafka())
