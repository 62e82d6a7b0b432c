"""Every setting, from the environment (`SCREENER_*`), as one frozen object that reports all its errors at once.

fields.py has the settings, checks.py rejects invalid values, access.py has the parts that functions take.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr, ValidationError

from app.errors import SettingsError
from app.settings.access import (
    AllServers,
    KafkaAccess,
    Namespace,
    NatsAccess,
    PostgresAccess,
    RedisAccess,
    TokenRules,
)
from app.settings.checks import CheckedSettings

PREFIX = "SCREENER_"
FILE_SUFFIX = "_FILE"
"""`SCREENER_X_FILE` names a file that holds the value of `SCREENER_X`: the way containers get secrets."""


@dataclass(frozen=True, slots=True)
class ServerUrls:
    """URLs of the four servers. They may hold passwords, so never print them."""

    nats: str
    kafka: str
    """host:port[,host:port]"""
    redis: str
    postgres: str


class Settings(CheckedSettings):
    """Build it with `Settings.load()`.

    Secrets (URLs with passwords included) are masked when printed.
    """

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, /, **overrides: Any) -> Self:
        """Return the settings of the environment (default: the process's own); `overrides` win.

        A setting may also be in a file, named by its variable with `_FILE` at the end; a final line break is ignored.
        Raises SettingsError with every error: unknown SCREENER_* variables, unreadable files, invalid values.
        """
        environ = os.environ if environ is None else environ
        values, faults = _given(environ, cls.model_fields)
        try:
            settings = cls.model_validate(values | overrides)
        except ValidationError as error:
            faults += [
                f"{PREFIX}{'_'.join(str(part) for part in fault['loc']).upper()}: {fault['msg']}"
                for fault in error.errors(include_input=False, include_url=False)
            ]
        if faults:
            raise SettingsError("invalid settings:\n  " + "\n  ".join(faults))
        return settings

    def name(self, plain: str) -> str:
        """Return `plain` in this namespace, for topics, groups, subjects and keys: `ns.plain`, or `plain` itself."""
        return self.names().name(plain)

    @property
    def database_schema(self) -> str:
        return self.namespace or "public"

    def names(self) -> Namespace:
        """Return the namespace, for functions that need no other setting."""
        return Namespace(self.namespace)

    def nats(self) -> NatsAccess:
        """Return the access to NATS. Raises SettingsError if it has no URL."""
        return NatsAccess(_url_of("nats", self.nats_url), self.names(), self.nats_replicas)

    def kafka(self) -> KafkaAccess:
        """Return the access to Kafka. Raises SettingsError if it has no URL."""
        return KafkaAccess(
            servers=_url_of("kafka", self.kafka_url),
            security=self.kafka_security,
            sasl_mechanism=self.kafka_sasl_mechanism,
            username=self.kafka_username,
            password=self.kafka_password,
            ca_file=self.kafka_ca_file,
            namespace=self.names(),
            partitions=self.partitions,
            replication_factor=self.replication_factor,
        )

    def postgres(self) -> PostgresAccess:
        """Return the access to PostgreSQL. Raises SettingsError if it has no URL."""
        return PostgresAccess(_url_of("postgres", self.postgres_url), self.database_schema)

    def redis(self) -> RedisAccess:
        """Return the access to Redis. Raises SettingsError if it has no URL."""
        return RedisAccess(_url_of("redis", self.redis_url), self.names())

    def tokens(self) -> TokenRules:
        """Return how tokens of users are signed and checked."""
        return TokenRules(
            secret=self.jwt_secret,
            jwks_url=self.jwt_jwks_url,
            algorithm=self.jwt_algorithm,
            issuer=self.jwt_issuer,
            audience=self.jwt_audience,
            leeway_s=self.jwt_leeway_s,
            admin_claim=self.jwt_admin_claim,
            admin_value=self.jwt_admin_value,
        )

    def servers(self) -> AllServers:
        """Return the access to all four servers. Raises SettingsError naming each server that has no URL."""
        self.server_urls()
        return AllServers(self.nats(), self.kafka(), self.redis(), self.postgres())

    def server_urls(self) -> ServerUrls:
        """Return the URLs of all four servers. Raises SettingsError with each missing URL."""
        found = {
            "nats": self.nats_url and self.nats_url.get_secret_value(),
            "kafka": self.kafka_url,
            "redis": self.redis_url and self.redis_url.get_secret_value(),
            "postgres": self.postgres_url and self.postgres_url.get_secret_value(),
        }
        missing = [f"{PREFIX}{server.upper()}_URL" for server, url in found.items() if not url]
        if missing:
            raise SettingsError(
                f"not set: {', '.join(missing)}; set them, or run `screener up`, which starts the servers itself"
            )
        return ServerUrls(**{server: str(url) for server, url in found.items()})

    def servers_environ(self) -> dict[str, str]:
        """Return the variables with which another process reaches the four servers, credentials included.

        Raises SettingsError with each missing URL.
        """
        environ = {f"{PREFIX}{server.upper()}_URL": url for server, url in asdict(self.server_urls()).items()}
        if self.kafka_security != "plaintext":
            environ[f"{PREFIX}KAFKA_SECURITY"] = self.kafka_security
            environ[f"{PREFIX}KAFKA_SASL_MECHANISM"] = self.kafka_sasl_mechanism
            given = {
                "USERNAME": self.kafka_username,
                "PASSWORD": self.kafka_password and self.kafka_password.get_secret_value(),
                "CA_FILE": self.kafka_ca_file and str(self.kafka_ca_file),
            }
            environ |= {f"{PREFIX}KAFKA_{name}": value for name, value in given.items() if value}
        return environ


def _url_of(server: str, url: SecretStr | str | None) -> str:
    if not url:
        raise SettingsError(
            f"{PREFIX}{server.upper()}_URL is not set: set it, or run `screener up` in this directory first"
        )
    return url.get_secret_value() if isinstance(url, SecretStr) else url


def _given(environ: Mapping[str, str], fields: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Return (field -> text, errors) of the SCREENER_* variables of `environ` and their files."""
    values: dict[str, str] = {}
    faults: list[str] = []
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX):
            continue
        field = name.removeprefix(PREFIX).lower()
        from_file = name.removesuffix(FILE_SUFFIX)
        if field in fields:
            values[field] = text
        elif from_file == name or from_file.removeprefix(PREFIX).lower() not in fields:
            faults.append(f"{name}: unknown setting")
        elif from_file in environ:
            faults.append(f"{name}: {from_file} is set too; remove one of them")
        else:
            try:
                values[from_file.removeprefix(PREFIX).lower()] = Path(text).read_text().removesuffix("\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
                faults.append(f"{name}: cannot read {text}: {reason}")
    return values, faults
