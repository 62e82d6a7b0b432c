"""Which values of the settings are valid, each by itself and with others."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import (
    ConfigDict,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from app.settings.fields import SettingsFields

_JWT_SECRET_MIN_BYTES = 32


class CheckedSettings(SettingsFields):
    """Settings whose values are valid."""

    # the classes from here on have no fields of their own whose docstrings pydantic would look for in their sources
    model_config = ConfigDict(use_attribute_docstrings=False)

    @field_validator("allowed_origins", "webhook_allowed_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("allowed_origins")
    @classmethod
    def _origins_only(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"https?://[a-z0-9.\-\[\]:]+", origin) for origin in value):
            raise ValueError("must be origins such as https://screener.example, without path or wildcard")
        return value

    @field_validator("webhook_allowed_hosts")
    @classmethod
    def _hosts_or_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            try:
                ip_network(entry)
            except ValueError:
                if not re.fullmatch(r"[a-z0-9_.-]*[a-z_][a-z0-9_.-]*", entry):
                    raise ValueError(
                        "must be lower-case names, addresses, or networks such as 10.1.0.0/16 without host bits"
                    ) from None
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks_only(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)
        return value

    @field_validator(
        "jwt_secret",
        "jwt_jwks_url",
        "jwt_issuer",
        "jwt_audience",
        "legacy_port",
        "webhook_url",
        "exchange_rest_url",
        "exchange_ws_url",
        mode="before",
    )
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("jwt_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < _JWT_SECRET_MIN_BYTES:
            raise ValueError(f"must be at least {_JWT_SECRET_MIN_BYTES} bytes: shorter keys can be guessed")
        return value

    @field_validator("jwt_jwks_url")
    @classmethod
    def _https_only(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.fragment:
            raise ValueError("must be an https URL without user and fragment")
        return value

    @model_validator(mode="before")
    @classmethod
    def _kafka_credentials(cls, values: Any) -> Any:
        """Move the credentials out of the URL, because messages show the URL."""
        url = values.get("kafka_url") if isinstance(values, dict) else None
        credentials, _, servers = url.rpartition("@") if isinstance(url, str) else ("", "", "")
        name, _, password = credentials.partition(":")
        if not (name and password):
            return values
        encrypted = str(values.get("kafka_security", "")).endswith("ssl")
        return values | {
            "kafka_url": servers,
            "kafka_security": "sasl_ssl" if encrypted else "sasl_plaintext",
            "kafka_sasl_mechanism": "PLAIN",
            "kafka_username": unquote(name),
            "kafka_password": unquote(password),
        }

    @field_validator("kafka_url")
    @classmethod
    def _no_halves_of_credentials(cls, value: str | None) -> str | None:
        if value is not None and "@" in value:
            raise ValueError("must be host:port, or user:password@host:port")
        return value

    @field_validator("websocket_token_required")
    @classmethod
    def _tokens_can_be_checked(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("jwt_secret") and not info.data.get("jwt_jwks_url"):
            raise ValueError(
                "set SCREENER_JWT_SECRET or SCREENER_JWT_JWKS_URL too: without a key no token is valid"
            )
        return value

    @field_validator("exchange_rest_url", "exchange_ws_url")
    @classmethod
    def _url_of_its_kind(cls, value: str | None, info: ValidationInfo) -> str | None:
        schemes = ("ws", "wss") if info.field_name == "exchange_ws_url" else ("http", "https")
        if value is not None and (urlsplit(value).scheme not in schemes or not urlsplit(value).hostname):
            raise ValueError(f"must be a URL that starts with {schemes[0]}:// or {schemes[1]}://")
        return value

    @field_validator("jwt_algorithm")
    @classmethod
    def _algorithm_fits_the_keys(cls, value: str, info: ValidationInfo) -> str:
        secret, url = info.data.get("jwt_secret"), info.data.get("jwt_jwks_url")
        if secret and url:
            raise ValueError("set SCREENER_JWT_SECRET or SCREENER_JWT_JWKS_URL, not both")
        if (secret and value != "HS256") or (url and value == "HS256"):
            raise ValueError(
                "use HS256 with SCREENER_JWT_SECRET, any other algorithm with SCREENER_JWT_JWKS_URL"
            )
        return value

    @field_validator("namespace")
    @classmethod
    def _no_leading_digit(cls, value: str) -> str:
        if value[:1].isdigit():
            raise ValueError("must not start with a digit: it names a database schema")
        return value
