"""Every setting, from the environment (`SCREENER_*`), as one frozen object that lists all its faults at once."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from app.errors import SettingsError

PREFIX = "SCREENER_"
FILE_SUFFIX = "_FILE"
"""`SCREENER_X_FILE` names a file that holds the value of `SCREENER_X`: how containers are given secrets."""
_JWT_SECRET_MIN_BYTES = 32


@dataclass(frozen=True, slots=True)
class ServerUrls:
    """Where the four servers are; may hold passwords, so print it nowhere."""

    nats: str
    kafka: str
    """host:port[,host:port]"""
    redis: str
    postgres: str

    def as_environ(self) -> dict[str, str]:
        """The variables that hand these URLs to another process."""
        return {f"{PREFIX}{server.upper()}_URL": url for server, url in asdict(self).items()}


class Settings(BaseModel):
    """Build it with `Settings.load()`; the field docstrings are the reference, and the comments of
    deploy/settings.env.

    Secrets (URLs with passwords included) are masked when printed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    nats_url: SecretStr | None = None
    """nats://[user:password@]host:port of a server with JetStream. `screener up` starts each server that has
    no URL itself, on loopback; every other command needs all four."""
    kafka_url: str | None = None
    """host:port[,host:port] of brokers that speak the Kafka protocol."""
    kafka_security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    """How Kafka is spoken to: ssl is TLS, sasl_ is with name and password."""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How name and password are proved to Kafka."""
    kafka_username: str | None = None
    """Name of the user at Kafka."""
    kafka_password: SecretStr | None = None
    """Password of that user."""
    kafka_ca_file: Path | None = None
    """File with the certificates that Kafka's must be signed by; by default those that the system trusts."""
    redis_url: SecretStr | None = None
    """redis://[user:password@]host:port/database"""
    postgres_url: SecretStr | None = None
    """postgresql://user:password@host:port/database, with TimescaleDB or plain."""
    data_dir: Path = Path(".screener")
    """Where `screener up` and the workers keep their files."""

    namespace: str = Field(default="", pattern=r"^[a-z0-9_]{0,40}$")
    """Prefix of topics, consumer groups, the NATS stream and subjects, Redis keys, and the database schema,
    so that several screeners (or a replay) share servers. Empty: the plain names."""
    exchange: str = "binance"
    """Name of the exchange the candles come from; the role `feed` knows binance and bybit."""
    exchange_rest_url: str | None = None
    """http(s) URL before the paths of its REST requests; by default that of the exchange itself."""
    exchange_ws_url: str | None = None
    """ws(s) URL of its public streams; by default that of the exchange itself."""
    exchange_symbols: int = Field(default=500, ge=1, le=5_000)
    """How many symbols are followed at most: the perpetuals in USDT with the largest volume of 24 h."""
    exchange_refresh_s: float = Field(default=300.0, ge=1, le=86_400)
    """How often the list of symbols is looked at again."""
    exchange_stale_s: float = Field(default=30.0, ge=1, le=600)
    """A connection to the exchange that is silent for so long is opened again."""
    forming_per_message: int = Field(default=100, ge=1, le=1_000)
    """Forming candles that the feed puts into one message on NATS, when so many are there at once; 1 gives each
    a message on its symbol's subject."""
    partitions: int = Field(default=2, ge=1, le=256)
    """Shards: partitions of every topic of frames and of every table. Fixed once topics exist."""
    replication_factor: int = Field(default=1, ge=1, le=5)
    """Copies of every topic that Kafka keeps."""

    frame_max_rows: int = Field(default=4000, ge=1, le=20_000)
    """Most candles in one frame."""
    frame_max_delay_ms: int = Field(default=60, ge=0, le=1_000)
    """How long the bridge gathers candles for a frame at most. It stops when none comes for a third of that, and
    some milliseconds after a burst that follows a quiet spell."""
    message_max_bytes: int = Field(default=1_048_576, ge=1_024, le=8_388_608)
    """Largest message taken from NATS, be it a candle or an array of candles; as large as NATS itself allows
    by default."""
    alert_mode: Literal["live", "close"] = "live"
    """live: rules are evaluated on every update. close: on closed candles only."""
    retention_hours: int = Field(default=48, ge=0)
    """How long the database keeps candles and metrics; 0 keeps everything."""

    bind_host: str = "127.0.0.1"
    """Address that the HTTP servers of all roles listen on."""
    collector_port: int = Field(default=9090, ge=0, le=65_535)
    """Health and Prometheus pages of the collector; 0 takes any free port, here and below."""
    calculator_port: int = Field(default=9091, ge=0, le=65_535)
    """Health and Prometheus pages of the calculator."""
    alerts_port: int = Field(default=9092, ge=0, le=65_535)
    """Health and Prometheus pages of the alert agent."""
    sidecar_port: int = Field(default=8080, ge=0, le=65_535)
    """REST, WebSocket and web page."""
    sidecar_metrics_port: int = Field(default=9093, ge=0, le=65_535)
    """Prometheus page of the sidecar."""
    bridge_port: int = Field(default=9094, ge=0, le=65_535)
    """Health and Prometheus pages of the bridge."""
    sinks_port: int = Field(default=9095, ge=0, le=65_535)
    """Health and Prometheus pages of the database sinks."""
    feed_port: int = Field(default=9096, ge=0, le=65_535)
    """Health and Prometheus pages of the feed."""
    webhooks_port: int = Field(default=9097, ge=0, le=65_535)
    """Health and Prometheus pages of the webhook sender."""

    allowed_origins: tuple[str, ...] = ()
    """Web pages, by exact origin (`https://screener.example`, comma separated), that may read the sidecar's
    answers and open its WebSocket. Its own page on localhost or an address always may."""

    webhook_allowed_hosts: tuple[str, ...] = ()
    """Names, addresses and networks (`hooks.internal, 10.1.0.0/16`, comma separated) that webhooks may go to although
    they are not public; to these also over http and at any port."""
    trusted_proxies: tuple[str, ...] = ()
    """Proxies in front of the sidecar, as networks (`10.0.0.0/8`, comma separated). Only what they say of a client's
    address in X-Forwarded-For is believed; by default nobody is."""
    rate_limit_per_minute: int = Field(default=100, ge=0, le=1_000_000)
    """Requests to /api that a client may make in a minute: by user where a token tells, else by address; 0 for no
    limit."""

    jwt_secret: SecretStr | None = None
    """Key of at least 32 bytes of the tokens (HS256) that identify users. Without this and the URL of public keys
    there are no users: their settings and changes of rules are refused."""
    jwt_jwks_url: str | None = None
    """https URL of the public keys (JWKS) of the tokens, instead of a secret."""
    jwt_algorithm: Literal["HS256", "RS256", "PS256", "ES256", "EdDSA"] = Field(
        default="HS256", validate_default=True
    )
    """The only signature accepted: HS256 with a secret, one of the others with the URL of public keys."""
    jwt_issuer: str | None = None
    """The `iss` that tokens must have; by default it is not looked at."""
    jwt_audience: str | None = None
    """The `aud` that tokens must have; by default it is not looked at."""
    jwt_leeway_s: int = Field(default=10, ge=0, le=300)
    """How far the clocks of the issuer of tokens and ours may differ."""
    jwt_admin_claim: str = Field(default="role", min_length=1)
    """The claim that tells administrators, who may change rules; dots lead into objects (`realm_access.roles`)."""
    jwt_admin_value: str = Field(default="admin", min_length=1)
    """What that claim is, or has among its items, for an administrator."""

    websocket_clients: int = Field(default=5_000, ge=1, le=100_000)
    """WebSocket connections that one sidecar takes."""
    websocket_clients_per_address: int = Field(default=200, ge=1, le=100_000)
    """WebSocket connections of one client address. Behind a proxy that is not among the trusted ones all clients have
    its address, and so this limit together."""
    websocket_clients_per_user: int = Field(default=20, ge=1, le=100_000)
    """WebSocket connections of one user at one sidecar."""
    websocket_token_required: bool = False
    """Whether the WebSocket serves only clients that show a token."""
    webhook_url: SecretStr | None = None
    """URL that every alert is posted to, of a program, Discord, Slack or Telegram; more targets are added by
    `screener webhooks targets add`, and users have one each."""
    webhook_timeout_s: float = Field(default=15.0, ge=0.1, le=30.0)
    """How long a webhook receiver may take to answer."""
    webhook_concurrency: int = Field(default=128, ge=1, le=1_000)
    """Most webhook requests at a time, in one process."""
    webhook_target_concurrency: int = Field(default=8, ge=1, le=100)
    """Most webhook requests at a time to one target, in one process. 1 keeps first attempts in the order of the
    alerts."""
    webhook_max_age_minutes: int = Field(default=60, ge=0, le=100_000)
    """Alerts that were about a time longer ago already when they were published, such as those of a backfilled day,
    are not sent by webhook; 0 sends all."""
    webhook_retention_days: int = Field(default=14, ge=4, le=365)
    """How long the outbox keeps webhooks that were delivered or given up, for redelivery; longer than the three days
    of retries."""

    simulated_symbols: int = Field(default=120, ge=1, le=5_000)
    """How many symbols the simulated market has."""
    simulated_updates_per_s: float = Field(default=1.0, gt=0, le=50)
    """Forming updates per symbol and second of the simulated market."""
    simulated_seed: int = Field(default=1, ge=0)
    """The same seed gives the same simulated market."""

    sim_exchange_port: int = Field(default=9098, ge=0, le=65_535)
    """REST and WebSocket of the simulated exchange."""
    sim_exchange_weight_per_minute: int = Field(default=12_000, ge=100)
    """Request weight that the simulated exchange lets one address spend in a minute; the real one's limit is
    2,400, with which a first day of many symbols takes minutes to load."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important messages that are logged."""
    log_format: Literal["console", "json"] = "console"
    """console: for people. json: one object a line."""
    trace_url: str | None = None
    """Where OpenTelemetry traces go, over OTLP and HTTP, such as http://collector:4318/v1/traces; each frame is a
    trace with a span a stage. Without it there are none. Needs the extra `tracing`."""
    trace_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of the frames that are traced; the same ones in every stage."""

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

    @field_validator("websocket_token_required")
    @classmethod
    def _tokens_can_be_checked(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("jwt_secret") and not info.data.get("jwt_jwks_url"):
            raise ValueError(
                "set SCREENER_JWT_SECRET or SCREENER_JWT_JWKS_URL too: no token could be accepted"
            )
        return value

    @field_validator("exchange_rest_url", "exchange_ws_url")
    @classmethod
    def _url_of_its_kind(cls, value: str | None, info: ValidationInfo) -> str | None:
        schemes = ("ws", "wss") if info.field_name == "exchange_ws_url" else ("http", "https")
        if value is not None and (urlsplit(value).scheme not in schemes or not urlsplit(value).hostname):
            raise ValueError(f"must be a URL that begins with {schemes[0]}:// or {schemes[1]}://")
        return value

    @field_validator("jwt_algorithm")
    @classmethod
    def _algorithm_fits_the_keys(cls, value: str, info: ValidationInfo) -> str:
        secret, url = info.data.get("jwt_secret"), info.data.get("jwt_jwks_url")
        if secret and url:
            raise ValueError("set SCREENER_JWT_SECRET or SCREENER_JWT_JWKS_URL, not both")
        if (secret and value != "HS256") or (url and value == "HS256"):
            raise ValueError("HS256 belongs to SCREENER_JWT_SECRET, the others to SCREENER_JWT_JWKS_URL")
        return value

    @field_validator("namespace")
    @classmethod
    def _no_leading_digit(cls, value: str) -> str:
        if value[:1].isdigit():
            raise ValueError("must not start with a digit: it names a database schema")
        return value

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, /, **overrides: Any) -> Self:
        """Settings of the given environment (default: the process's own); `overrides` win.

        Every setting may also come from a file, named by its variable with `_FILE` at the end; a last line break is
        not part of it. Raises SettingsError naming every fault: unknown SCREENER_* variables, files that cannot be
        read, and bad values alike.
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
            raise SettingsError("these settings cannot be used:\n  " + "\n  ".join(faults))
        return settings

    def name(self, plain: str) -> str:
        """`plain` within this namespace, for topics, groups, subjects and keys: `ns.plain`, or `plain` itself."""
        return f"{self.namespace}.{plain}" if self.namespace else plain

    @property
    def database_schema(self) -> str:
        return self.namespace or "public"

    def server_urls(self) -> ServerUrls:
        """The URLs of all four servers. Raises SettingsError naming each one that is not set."""
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


def _given(environ: Mapping[str, str], fields: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """(field -> text, faults) of the SCREENER_* variables of `environ` and the files they name."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX):
            continue
        field = name.removeprefix(PREFIX).lower()
        from_file = name.removesuffix(FILE_SUFFIX)
        if field in fields:
            values[field] = text
        elif from_file == name or from_file.removeprefix(PREFIX).lower() not in fields:
            faults.append(f"{name}: there is no such setting")
        elif from_file in environ:
            faults.append(f"{name}: {from_file} is set too; keep one of them")
        else:
            try:
                values[from_file.removeprefix(PREFIX).lower()] = Path(text).read_text().removesuffix("\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
                faults.append(f"{name}: cannot read {text}: {reason}")
    return values, faults
