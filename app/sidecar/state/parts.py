"""Builds and connects all parts of the sidecar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from app.alerts.switched_off import SwitchedOffBoard, SwitchedOffRules
from app.clock import Clock
from app.process.health.signs import read_signs
from app.process.quarantine import Attempts
from app.settings import Settings
from app.settings.access import KafkaAccess
from app.sidecar.access.auth import TokenVerifier, verifier_of
from app.sidecar.access.client_address import ClientAddresses
from app.sidecar.access.origins import Origins
from app.sidecar.access.rate_limit import RateLimiter
from app.sidecar.access.shared_counts import SharedCounts
from app.sidecar.legacy.shapes import alert_frame as legacy_alert_frame
from app.sidecar.live.alert_groups import AlertGroups
from app.sidecar.live.alert_log import AlertLog
from app.sidecar.live.alert_resume import AlertResume
from app.sidecar.live.client_user import UserSelections
from app.sidecar.live.clients import Clients
from app.sidecar.live.field_sets import FieldSets
from app.sidecar.live.latest_channel import LatestChannel
from app.sidecar.live.latest_values import CandleValues, MetricsValues
from app.sidecar.live.session import Channels
from app.sidecar.live.websocket import AlertStream, ChannelStream
from app.sidecar.state.alert_history import AlertHistory
from app.sidecar.state.backlogs import Backlogs
from app.sidecar.state.database import Database
from app.sidecar.state.feeds import AlertFeed, MetricsFeed
from app.sidecar.state.follower import StartAt, TopicFollower
from app.sidecar.state.health import Health
from app.sidecar.state.latest import LatestMetrics
from app.sidecar.state.limits import SidecarLimits
from app.sidecar.state.rules import RuleStates
from app.sidecar.state.sealed_market import SealedMarket
from app.sidecar.state.server_checks import dependency_checks
from app.sidecar.trials.runner import TrialRunner
from app.telemetry import (
    PipelineMetrics,
    database_metrics,
    pipeline_metrics,
    runtime_metrics,
    sidecar_metrics,
)
from app.telemetry.catalogue import RoleRegistry
from app.wire.kafka import client_options
from app.wire.nats.stream import probe_stream
from app.wire.tickers import TickerStore
from app.wire.topics import Topics

_ALERTS_AT_ONCE: Final = 500
_FRAMES_AT_ONCE: Final = 8
_MARKET_RECORDS_BACK: Final = 300
"""About two hours of minutes, as long as Kafka keeps them."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything the routes use and everything that runs beside them."""

    registry: RoleRegistry
    clock: Clock
    origins: Origins
    addresses: ClientAddresses
    database: Database
    trials: TrialRunner
    tickers: TickerStore
    verifier: TokenVerifier | None
    """None without users."""
    limiter: RateLimiter
    counts: SharedCounts
    alerts: AlertLog
    receivers: AlertGroups
    latest: LatestMetrics
    sealed: SealedMarket
    channels: tuple[LatestChannel, ...]
    history: AlertHistory
    clients: Clients
    alert_stream: AlertStream
    legacy_alert_stream: AlertStream
    """In the form of the earlier gateway."""
    channel_stream: ChannelStream
    health: Health
    backlogs: Backlogs
    rule_states: RuleStates
    rules_values_max: int
    followers: tuple[TopicFollower, ...]
    attempts: Attempts
    """Where the followers' feeds note the record that they work on."""


def build_parts(
    settings: Settings, clock: Clock, redis: Redis, limits: SidecarLimits, registry: RoleRegistry
) -> Parts:
    """Build without connecting. Raises SettingsError naming the servers without a URL."""
    urls, names = settings.server_urls(), settings.names()
    pipeline, gateway = pipeline_metrics(registry), sidecar_metrics(registry)
    alerts, receivers = AlertLog(limits), AlertGroups(gateway, limits.block_bytes)
    latest = LatestMetrics()
    channels = tuple(LatestChannel(values(latest), limits) for values in (MetricsValues, CandleValues))
    attempts = Attempts(settings.data_dir, settings.name("sidecar"), pipeline)
    alert_feed = AlertFeed(alerts, receivers, limits, clock, pipeline, attempts)
    metrics_feed = MetricsFeed(latest, channels, clock, pipeline, attempts)
    sealed = SealedMarket(pipeline)
    followers = _followers(settings.kafka(), limits, alert_feed, metrics_feed, sealed, pipeline)
    database = Database(settings.postgres(), limits, database_metrics(registry))
    history = AlertHistory(database)
    limiter = RateLimiter(settings.rate_limit_per_minute, clock)
    verifier = verifier_of(settings.tokens(), clock)
    origins, addresses = Origins(settings.allowed_origins), ClientAddresses(settings.trusted_proxies)
    clients = Clients(origins, addresses, limits, gateway)
    resume = AlertResume(alerts, alert_feed, history, limits, lambda: followers[0].caught_up)
    shared = Channels(
        clients=clients,
        groups=receivers,
        resume=resume,
        values={channel.name: channel for channel in channels},
        field_sets=FieldSets(limits.field_sets, limits.field_sets_per_owner),
        selections=UserSelections(database),
        verifier=verifier,
        closed=settings.websocket_token_required,
        clock=clock,
    )
    checks = dependency_checks(urls.nats, redis, names, database, lambda: probe_stream(settings.nats()))
    health = Health(
        checks, followers, metrics_feed, limits, clock, runtime_metrics(registry.process), gateway
    )
    health.timescale = lambda: database.timescale
    health.read_signs = lambda: read_signs(redis, names, clock.now_ms())
    backlogs = Backlogs(settings.kafka(), settings.nats(), clock, limits.backlog_every_s)
    health.backlog_of = backlogs.of
    own_rules = SwitchedOffRules("sidecar", clock)
    rule_states = RuleStates(own_rules, SwitchedOffBoard(redis, names, own_rules, clock), gateway)
    health.rules = rule_states.report
    return Parts(
        registry=registry,
        clock=clock,
        origins=origins,
        addresses=addresses,
        database=database,
        trials=TrialRunner(settings.postgres()),
        tickers=TickerStore(redis, names),
        verifier=verifier,
        limiter=limiter,
        counts=SharedCounts(limiter, redis, names),
        alerts=alerts,
        receivers=receivers,
        latest=latest,
        sealed=sealed,
        history=history,
        channels=channels,
        clients=clients,
        alert_stream=AlertStream(clients, receivers, resume, limits, clock, shared.closed),
        legacy_alert_stream=AlertStream(
            clients, receivers, resume, limits, clock, shared.closed, legacy_alert_frame
        ),
        channel_stream=ChannelStream(clients, shared, limits),
        health=health,
        backlogs=backlogs,
        rule_states=rule_states,
        rules_values_max=settings.rules_values_max,
        followers=followers,
        attempts=attempts,
    )


def _followers(
    kafka: KafkaAccess,
    limits: SidecarLimits,
    alert_feed: AlertFeed,
    metrics_feed: MetricsFeed,
    sealed: SealedMarket,
    pipeline: PipelineMetrics,
) -> tuple[TopicFollower, ...]:
    """Return the followers of alerts, of metrics and of sealed minutes."""
    access, topics = client_options(kafka), Topics.of(kafka.namespace)
    return (
        TopicFollower(
            access,
            topics.alerts,
            1,
            StartAt(limits.remembered_alerts + limits.repeat_distance, _ALERTS_AT_ONCE),
            alert_feed.take,
            alert_feed.begin,
            pipeline,
        ),
        TopicFollower(
            access,
            topics.metrics,
            kafka.partitions,
            StartAt(limits.metrics_records_back, _FRAMES_AT_ONCE),
            metrics_feed.take,
            metrics_feed.begin,
            pipeline,
            gathers=True,
        ),
        TopicFollower(
            access,
            topics.market,
            1,
            StartAt(_MARKET_RECORDS_BACK, _FRAMES_AT_ONCE),
            sealed.take,
            sealed.begin,
            pipeline,
        ),
    )
