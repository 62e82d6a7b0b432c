"""Every setting with its meaning and default."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
)

from app.settings.access import (
    KafkaSecurity,
    SaslMechanism,
)


class SettingsFields(BaseModel):
    """The field docstrings are the reference; deploy/settings.env repeats them."""

    # deferred: of the three classes only Settings validates anything, and every process pays for a validator
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, defer_build=True)

    nats_url: SecretStr | None = None
    """nats://[user:password@]host:port of a server with JetStream. `screener up` starts each server without a
    URL on loopback; a role (`screener run`) needs all four URLs."""
    kafka_url: str | None = None
    """[user:password@]host:port[,host:port] of brokers that speak the Kafka protocol. A user and a password here
    replace kafka_username and kafka_password; kafka_security then becomes its sasl_ form, with mechanism PLAIN."""
    kafka_security: KafkaSecurity = "plaintext"
    """Protocol to Kafka: ssl is TLS, sasl_ adds user name and password."""
    kafka_sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    """SASL mechanism for user name and password."""
    kafka_username: str | None = None
    """User name at Kafka."""
    kafka_password: SecretStr | None = None
    """Password of this user."""
    kafka_ca_file: Path | None = None
    """File with the CA certificates for Kafka; default: the CAs that the system trusts."""
    redis_url: SecretStr | None = None
    """redis://[user:password@]host:port/database"""
    postgres_url: SecretStr | None = None
    """postgresql://user:password@host:port/database, with TimescaleDB or plain."""
    data_dir: Path = Path(".screener")
    """Directory for the files of `screener up` and the workers."""

    namespace: str = Field(default="", pattern=r"^[a-z0-9_]{0,40}$")
    """Prefix of topics, consumer groups, the NATS stream and subjects, Redis keys, and the database schema,
    so that several screeners (or a replay) can share servers. Empty: no prefix."""
    exchange: str = "binance"
    """Name of the exchange that the candles come from; the role `feed` supports binance and bybit."""
    exchange_rest_url: str | None = None
    """http(s) base URL of its REST requests; default: the exchange's own."""
    exchange_ws_url: str | None = None
    """ws(s) URL of its public streams; default: the exchange's own."""
    exchange_symbols: int = Field(default=500, ge=1, le=5_000)
    """Maximum number of symbols: the USDT perpetuals with the largest 24 h volume."""
    exchange_tradifi: bool = False
    """Also follow perpetuals on shares, commodities and other markets with closing hours."""
    exchange_refresh_s: float = Field(default=300.0, ge=1, le=86_400)
    """How often the feed reads the list of symbols again."""
    exchange_stale_s: float = Field(default=30.0, ge=1, le=600)
    """A connection to the exchange that is silent for so long is replaced."""
    forming_per_message: int = Field(default=100, ge=1, le=1_000)
    """Maximum number of forming candles in one NATS message; with 1 each has its own message on its symbol's
    subject."""
    partitions: int = Field(default=1, ge=1, le=256)
    """Shards: partitions of every topic of frames and of every table, and so the maximum number of workers of a stage.
    Each needs frames of its own, so more of them than workers make alerts later. Cannot change once topics exist."""
    replication_factor: int = Field(default=1, ge=1, le=5)
    """Copies of every topic in Kafka."""
    nats_replicas: int = Field(default=1, ge=1, le=5)
    """Copies of the candle stream and of the bridges' consumer on NATS: 3 or 5 on a cluster of as many servers. An
    existing stream gets more copies, never fewer."""

    symbols_max: int = Field(default=3_000, ge=1, le=100_000)
    """Maximum number of symbols at a time; each takes about 260 KB in the calculator. Each shard counts its own and may
    have a little more than its share; candles of further symbols are rejected as `too_many_symbols`."""
    frame_max_rows: int = Field(default=4000, ge=1, le=20_000)
    """Maximum number of candles in one frame."""
    frame_max_delay_ms: int = Field(default=40, ge=0, le=1_000)
    """Maximum time that the bridge collects candles for a frame. It stops earlier if no candle comes for a third of it,
    and some milliseconds after a burst that follows a quiet time, or after closes; for closes that come one after the
    other it collects for a third of it at most."""
    message_max_bytes: int = Field(default=1_048_576, ge=1_024, le=8_388_608)
    """Maximum size of a NATS message, a candle or an array of candles. The default is the default limit of NATS."""
    alert_mode: Literal["live", "close"] = "live"
    """live: evaluate rules on every update. close: only on closed candles."""
    rules_values_max: int = Field(default=100_000, ge=0, le=10_000_000)
    """How many values of each symbol the functions over time of all enabled rules may remember, 8 bytes each. A rule
    that exceeds it is refused, with the figure."""
    alert_backfilled_after_s: int = Field(default=120, ge=0, le=86_400)
    """An alert that is older than this when it is published is marked `backfilled`: it is stored, but sent only to
    clients that ask for backfilled alerts. 0 marks no alert."""
    market_grace_ms: int = Field(default=3_000, ge=0, le=60_000)
    """How long after the end of a minute, by event time, rules that look at the whole market wait for symbols that have
    not delivered it."""
    market_wait_s: float = Field(default=180.0, ge=1, le=3_600)
    """How long they wait for a partition that sends nothing, for example while a stage is down, and for candles that
    NATS delivers again."""
    retention_hours: int = Field(default=48, ge=0)
    """How long the database keeps candles of minutes, and metrics; 0 keeps everything."""
    history_days: int = Field(default=400, ge=0, le=10_000)
    """How long the database keeps candles of 5m, 15m, 1h, 4h and 1d, which charts are made of; 0 keeps everything."""

    bind_host: str = "127.0.0.1"
    """Address that the HTTP servers of all roles listen on."""
    collector_port: int = Field(default=9090, ge=0, le=65_535)
    """Health and Prometheus pages of the collector; 0 takes any free port, also for the ports below."""
    calculator_port: int = Field(default=9091, ge=0, le=65_535)
    """Health and Prometheus pages of the calculator."""
    alerts_port: int = Field(default=9092, ge=0, le=65_535)
    """Health and Prometheus pages of the alert agent."""
    sidecar_port: int = Field(default=8080, ge=0, le=65_535)
    """REST, WebSocket and web page."""
    sidecar_metrics_port: int = Field(default=9093, ge=0, le=65_535)
    """Prometheus page of the sidecar."""
    legacy_port: int | None = Field(default=None, ge=0, le=65_535)
    """REST and WebSocket of the earlier system's gateway, beside the sidecar's own; without it they are off."""
    legacy_nats: bool = False
    """Publish `alerts.triggered` and `metrics.calculated` on NATS as the earlier system did."""
    bridge_port: int = Field(default=9094, ge=0, le=65_535)
    """Health and Prometheus pages of the bridge."""
    sinks_port: int = Field(default=9095, ge=0, le=65_535)
    """Health and Prometheus pages of the database sinks."""
    feed_port: int = Field(default=9096, ge=0, le=65_535)
    """Health and Prometheus pages of the feed."""
    webhooks_port: int = Field(default=9097, ge=0, le=65_535)
    """Health and Prometheus pages of the webhook sender."""
    market_port: int = Field(default=9099, ge=0, le=65_535)
    """Health and Prometheus pages of the market role."""

    allowed_origins: tuple[str, ...] = ()
    """Web pages, by exact origin (`https://screener.example`, comma separated), that may read the sidecar's
    answers and open its WebSocket. Its own page on localhost or on an IP address always may."""

    webhook_allowed_hosts: tuple[str, ...] = ()
    """Names, addresses and networks (`hooks.internal, 10.1.0.0/16`, comma separated) that operators' webhooks may
    reach although they are not public, also over http and at any port. Users' webhooks never may."""
    trusted_proxies: tuple[str, ...] = ()
    """Proxies in front of the sidecar, as networks (`10.0.0.0/8`, comma separated). X-Forwarded-For is
    trusted only from them; default: from nobody."""
    rate_limit_per_minute: int = Field(default=100, ge=0, le=1_000_000)
    """Requests to /api per client and minute; the client is the user of the token, else the address. 0: no limit."""

    jwt_secret: SecretStr | None = None
    """Key of at least 32 bytes of the tokens (HS256) of users. Without this key and without jwt_jwks_url
    there are no users: requests for settings and changes of rules are rejected."""
    jwt_jwks_url: str | None = None
    """https URL of the public keys (JWKS) of the tokens, instead of a secret."""
    jwt_algorithm: Literal["HS256", "RS256", "PS256", "ES256", "EdDSA"] = Field(
        default="HS256", validate_default=True
    )
    """The only accepted signature: HS256 with jwt_secret, any other with jwt_jwks_url."""
    jwt_issuer: str | None = None
    """The required `iss` of tokens; default: not checked."""
    jwt_audience: str | None = None
    """The required `aud` of tokens; default: not checked."""
    jwt_leeway_s: int = Field(default=10, ge=0, le=300)
    """Allowed difference between the clocks of the token issuer and this machine."""
    jwt_admin_claim: str = Field(default="role", min_length=1)
    """The claim of administrators, who may change rules; dots select inside objects (`realm_access.roles`)."""
    jwt_admin_value: str = Field(default="admin", min_length=1)
    """The value of this claim for an administrator, or one of its items."""

    websocket_clients: int = Field(default=5_000, ge=1, le=100_000)
    """Maximum number of WebSocket connections of one sidecar."""
    websocket_clients_per_address: int = Field(default=200, ge=1, le=100_000)
    """Maximum number of WebSocket connections of one client address. Behind a proxy that is not in trusted_proxies all
    clients share its address and this limit."""
    websocket_clients_per_user: int = Field(default=20, ge=1, le=100_000)
    """Maximum number of WebSocket connections of one user at one sidecar."""
    http_connections: int = Field(default=1_000, ge=16, le=100_000)
    """Maximum number of connections of one sidecar besides WebSockets; a further one is answered 503 and closed."""
    http_connections_per_address: int = Field(default=200, ge=4, le=100_000)
    """Maximum number of connections of one address besides its WebSockets. Trusted proxies are not counted."""
    http_head_timeout_s: float = Field(default=15.0, ge=0.1, le=300)
    """Maximum time for the head of a request, from its first byte."""
    http_idle_timeout_s: float = Field(default=75.0, ge=0.1, le=3_600)
    """Maximum idle time of a connection; make it longer than the idle time of a proxy in front."""
    http_stalled_timeout_s: float = Field(default=20.0, ge=0.1, le=300)
    """A client that reads nothing of its answer for so long is disconnected."""
    http_unread_bytes: int = Field(default=67_108_864, ge=1_048_576)
    """Maximum total of answer bytes that clients have not read; the client with the most is disconnected first."""
    websocket_token_required: bool = False
    """Serve the WebSocket only to clients with a token."""
    webhook_url: SecretStr | None = None
    """URL of a program, Discord, Slack or Telegram that gets every alert. Add more targets with
    `screener webhooks targets add`; each user can have one."""
    webhook_timeout_s: float = Field(default=15.0, ge=0.1, le=30.0)
    """Maximum time for a webhook receiver to answer."""
    webhook_concurrency: int = Field(default=128, ge=1, le=1_000)
    """Maximum number of webhook requests at a time, per process."""
    webhook_target_concurrency: int = Field(default=8, ge=1, le=100)
    """Maximum number of webhook requests at a time to one target, per process. With 1, first attempts keep the order of
    the alerts."""
    webhook_max_age_minutes: int = Field(default=60, ge=0, le=100_000)
    """Alerts older than this when they are published, for example alerts of a backfilled day, are not sent by webhook;
    0 sends all."""
    webhook_retention_days: int = Field(default=14, ge=4, le=365)
    """How long the outbox keeps delivered and dead webhooks for redelivery; longer than the three days of retries."""

    simulated_symbols: int = Field(default=120, ge=1, le=5_000)
    """Number of symbols of the simulated market."""
    simulated_updates_per_s: float = Field(default=1.0, gt=0, le=50)
    """Forming updates per symbol and second of the simulated market."""
    simulated_seed: int = Field(default=1, ge=0)
    """Seed of the simulated market; the same seed gives the same market."""

    sim_exchange_port: int = Field(default=9098, ge=0, le=65_535)
    """REST and WebSocket of the simulated exchange."""
    sim_exchange_weight_per_minute: int = Field(default=12_000, ge=100)
    """Request weight per address and minute at the simulated exchange. The real limit is 2,400; with it the first day
    of many symbols takes minutes to load."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum level of logged messages."""
    log_format: Literal["console", "json"] = "console"
    """console: for people. json: one object per line."""
    trace_url: str | None = None
    """URL for OpenTelemetry traces over OTLP/HTTP, for example http://collector:4318/v1/traces. Each frame is a trace
    with one span per stage. Without it there are no traces. Needs the extra `tracing`."""
    trace_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of traced frames; every stage traces the same frames."""
