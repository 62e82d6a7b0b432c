"""Apache Kafka that speaks TLS only to those who know a password."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiokafka import AIOKafkaConsumer
from cryptography.hazmat.primitives import serialization

from app.database.migrate import migrate
from app.errors import ServerUnreachable, SettingsError
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import LOOPBACK, free_port
from app.local.servers.reachability import check_servers
from app.process.children.supervisor import RoleProcesses, role_environ
from app.settings import Settings
from app.wire.kafka import client_options, ensure_topics, kafka_producer
from app.wire.topics import Topics
from tests.support.apache_kafka import ApacheKafka
from tests.support.eventually import eventually
from tests.support.servers import settings_for

pytestmark = pytest.mark.kafka

USER, PASSWORD = "screener", "only-tests-know"


def as_pkcs8(key: bytes) -> bytes:
    """Kafka reads keys in no other form."""
    form = serialization.PrivateFormat.PKCS8
    loaded = serialization.load_pem_private_key(key, None)
    return loaded.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


@pytest.fixture(scope="module")
def secured(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """The settings that reach a broker with TLS and SCRAM."""
    folder = tmp_path_factory.mktemp("secured-kafka")
    authority, server = folder / "ca.crt", folder / "server.pem"
    issuer = trustme.CA()
    issuer.cert_pem.write_to_path(str(authority))
    issued = issuer.issue_cert(LOOPBACK)
    chain = b"".join(one.bytes() for one in issued.cert_chain_pems)
    server.write_bytes(as_pkcs8(issued.private_key_pem.bytes()) + chain)
    port, plain, controller = free_port(), free_port(), free_port()
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    properties = {
        "listeners": f"SECURE://{LOOPBACK}:{port},PLAINTEXT://{LOOPBACK}:{plain},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"SECURE://{LOOPBACK}:{port},PLAINTEXT://{LOOPBACK}:{plain}",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
        "listener.security.protocol.map": "SECURE:SASL_SSL,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.secure.scram-sha-512.sasl.jaas.config": scram,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(server),
    }
    user = ("--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]")
    with ApacheKafka(folder, kafka_jars, properties=properties, format_with=user, port=plain):
        yield {
            "kafka_url": f"{LOOPBACK}:{port}",
            "kafka_security": "sasl_ssl",
            "kafka_sasl_mechanism": "SCRAM-SHA-512",
            "kafka_username": USER,
            "kafka_password": PASSWORD,
            "kafka_ca_file": authority,
        }


@pytest.fixture
def settings(stack: EmbeddedStack, secured: dict[str, object]) -> Settings:
    plain = settings_for(stack.urls)
    return Settings.model_validate(plain.model_dump() | secured)


def changed(settings: Settings, **values: object) -> Settings:
    return Settings.model_validate(settings.model_dump() | values)


async def test_records_go_there_and_back(settings: Settings):
    await check_servers(settings.server_urls(), client_options(settings.kafka()))
    await ensure_topics(settings.kafka())
    topic = Topics.of(settings.names()).dead_letters
    async with kafka_producer(settings.kafka()) as producer:
        await producer.send_and_wait(topic, b"across", partition=0)
    consumer = AIOKafkaConsumer(topic, **client_options(settings.kafka()), auto_offset_reset="earliest")
    await consumer.start()
    try:
        assert (await consumer.getone()).value == b"across"
    finally:
        await consumer.stop()


@pytest.mark.parametrize("role", ["collector", "bridge", "sinks"])
async def test_a_role_becomes_ready_there(settings: Settings, role: str, tmp_path: Path):
    port = free_port()
    settings = changed(settings, **{f"{role}_port": port}, data_dir=tmp_path)
    migrate(settings.postgres())
    roles = RoleProcesses(role_environ(settings), tmp_path, [role])
    roles.start()
    try:
        async with aiohttp.ClientSession() as session:

            async def ready() -> bool:
                assert roles.processes[role].running, roles.processes[role].describe_end()
                try:
                    async with session.get(f"http://{LOOPBACK}:{port}/health/ready") as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            await eventually(ready, 120)
    finally:
        await roles.stop()


@pytest.mark.parametrize(
    "wrong",
    [{"kafka_password": "guessed"}, {"kafka_ca_file": None}, {"kafka_security": "plaintext"}],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_who_does_not_know_the_password_or_the_certificate_gets_nothing(
    settings: Settings, wrong: dict[str, object]
):
    with pytest.raises(ServerUnreachable):
        await ensure_topics(changed(settings, **wrong).kafka())


def test_what_is_missing_is_named(settings: Settings, tmp_path: Path):
    with pytest.raises(SettingsError, match="SCREENER_KAFKA_PASSWORD"):
        client_options(changed(settings, kafka_password=None).kafka())
    with pytest.raises(SettingsError, match="SCREENER_KAFKA_CA_FILE"):
        client_options(changed(settings, kafka_ca_file=tmp_path / "missing").kafka())
    (tmp_path / "empty").write_text("")
    with pytest.raises(SettingsError, match="SCREENER_KAFKA_CA_FILE"):
        client_options(changed(settings, kafka_ca_file=tmp_path / "empty").kafka())


def test_in_the_clear_nothing_but_the_address_is_needed(stack: EmbeddedStack):
    settings = settings_for(stack.urls | {"kafka": "127.0.0.1:9092"})
    assert client_options(settings.kafka()) == {
        "bootstrap_servers": settings.kafka_url,
        "security_protocol": "PLAINTEXT",
    }


def test_tls_alone_checks_the_host_and_asks_for_no_password(settings: Settings):
    access = client_options(changed(settings, kafka_security="ssl", kafka_password=None).kafka())
    assert access["security_protocol"] == "SSL"
    assert access["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    assert access["ssl_context"].check_hostname
    assert "sasl_mechanism" not in access
