"""Access to one server and our names on it: functions take these values instead of all settings.

`settings.postgres()`, `settings.redis()` and `settings.names()` return them. URLs are not printed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

KafkaSecurity = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class Namespace:
    """Prefix of our topics, consumer groups, subjects and keys, on servers that others may share."""

    prefix: str = ""
    """Empty: no prefix."""

    def name(self, plain: str) -> str:
        """Return `plain` in this namespace: `prefix.plain`, or `plain` itself."""
        return f"{self.prefix}.{plain}" if self.prefix else plain


@dataclass(frozen=True, slots=True)
class PostgresAccess:
    """The database, and the schema of our tables."""

    url: str = field(repr=False)
    """postgresql://; may hold a password."""
    schema: str


@dataclass(frozen=True, slots=True)
class RedisAccess:
    """Redis, and the namespace of our keys."""

    url: str = field(repr=False)
    """redis://; may hold a password."""
    namespace: Namespace

    def name(self, plain: str) -> str:
        """Return the key `plain` in the namespace."""
        return self.namespace.name(plain)


@dataclass(frozen=True, slots=True)
class TokenRules:
    """How tokens of users are signed, and which claims they must have."""

    secret: SecretStr | None
    """Without this and `jwks_url` there are no users."""
    jwks_url: str | None
    algorithm: str
    issuer: str | None
    """None is not checked, here and below."""
    audience: str | None
    leeway_s: int
    admin_claim: str
    """Dots select inside objects."""
    admin_value: str


@dataclass(frozen=True, slots=True)
class NatsAccess:
    """NATS, and the namespace of our stream and subjects."""

    url: str = field(repr=False)
    """nats://; may hold a password."""
    namespace: Namespace
    replicas: int = 1
    """Copies of the stream."""


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Kafka, our user there, and how to create our topics."""

    servers: str
    """host:port[,host:port]"""
    security: KafkaSecurity
    sasl_mechanism: SaslMechanism
    username: str | None
    password: SecretStr | None
    ca_file: Path | None
    """CA certificates for Kafka; None: the CAs that the system trusts."""
    namespace: Namespace
    partitions: int
    """Partitions of every topic of frames."""
    replication_factor: int
    """Copies of every topic in Kafka."""


@dataclass(frozen=True, slots=True)
class AllServers:
    """Access to all four servers, for functions that need them all."""

    nats: NatsAccess
    kafka: KafkaAccess
    redis: RedisAccess
    postgres: PostgresAccess
