"""How every client of ours reaches Kafka: addresses, TLS, and who we are."""

from __future__ import annotations

import ssl
from typing import Any

from app.errors import SettingsError
from app.settings import Settings


def kafka_access(settings: Settings) -> dict[str, Any]:
    """The keyword arguments that aiokafka's clients share.

    Raises SettingsError when Kafka's URL, the name or the password is missing, or the file of certificates is of
    no use.
    """
    access: dict[str, Any] = {
        "bootstrap_servers": settings.server_urls().kafka,
        "security_protocol": settings.kafka_security.upper(),
    }
    if settings.kafka_security.endswith("ssl"):
        access["ssl_context"] = _tls(settings)
    if settings.kafka_security.startswith("sasl"):
        if settings.kafka_username is None or settings.kafka_password is None:
            raise SettingsError(
                f"SCREENER_KAFKA_SECURITY is {settings.kafka_security}: "
                "set SCREENER_KAFKA_USERNAME and SCREENER_KAFKA_PASSWORD too"
            )
        access["sasl_mechanism"] = settings.kafka_sasl_mechanism
        access["sasl_plain_username"] = settings.kafka_username
        access["sasl_plain_password"] = settings.kafka_password.get_secret_value()
    return access


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.kafka_ca_file)
    except OSError as error:
        raise SettingsError(
            f"SCREENER_KAFKA_CA_FILE: no certificates can be read from {settings.kafka_ca_file}: {error}"
        ) from error
