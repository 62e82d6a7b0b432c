"""Everything the sidecar consists of, connected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from app.clock import Clock
from app.kafka_access import kafka_access
from app.settings import Settings
from app.sidecar.alert_groups import AlertGroups
from app.sidecar.alert_log import AlertLog
from app.sidecar.alert_resume import AlertResume
from app.sidecar.auth import TokenVerifier, verifier_of
from app.sidecar.client_address import ClientAddresses
from app.sidecar.clients import Clients
from app.sidecar.database import Database
from app.sidecar.feeds import AlertFeed, MetricsFeed
from app.sidecar.follower import StartAt, TopicFollower
from app.sidecar.health import Health, dependency_checks
from app.sidecar.history import AlertHistory
from app.sidecar.latest import LatestMetrics
from app.sidecar.latest_channel import LatestChannel
from app.sidecar.latest_values import CandleValues, MetricsValues
from app.sidecar.limits import SidecarLimits
from app.sidecar.origins import Origins
from app.sidecar.rate_limit import RateLimiter
from app.sidecar.session import Channels
from app.sidecar.shared_counts import SharedCounts
from app.sidecar.user_selection import UserSelections
from app.sidecar.websocket import AlertStream, ChannelStream
from app.telemetry import (
    PipelineMetrics,
    database_metrics,
    gateway_metrics,
    pipeline_metrics,
    runtime_metrics,
)
from app.topics import Topics

_ALERTS_AT_ONCE: Final = 500
_FRAMES_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything the routes use and everything that runs beside them."""

    settings: Settings
    registry: CollectorRegistry
    clock: Clock
    redis: Redis
    database: Database
    verifier: TokenVerifier | None
    """None: there are no users."""
    limiter: RateLimiter
    counts: SharedCounts
    alerts: AlertLog
    receivers: AlertGroups
    latest: LatestMetrics
    channels: tuple[LatestChannel, ...]
    history: AlertHistory
    clients: Clients
    alert_stream: AlertStream
    channel_stream: ChannelStream
    health: Health
    followers: tuple[TopicFollower, ...]


def build_parts(
    settings: Settings, clock: Clock, redis: Redis, limits: SidecarLimits, registry: CollectorRegistry
) -> Parts:
    """Connects nothing yet. Raises SettingsError naming the servers without a URL."""
    urls = settings.server_urls()
    pipeline, gateway = pipeline_metrics(registry), gateway_metrics(registry)
    alerts, receivers = AlertLog(limits), AlertGroups(gateway, limits.block_bytes)
    latest = LatestMetrics()
    channels = tuple(LatestChannel(values(latest), limits) for values in (MetricsValues, CandleValues))
    alert_feed = AlertFeed(alerts, receivers, limits, clock, pipeline)
    metrics_feed = MetricsFeed(latest, channels, clock, pipeline)
    followers = _followers(settings, limits, alert_feed, metrics_feed, pipeline)
    database = Database(settings, limits, database_metrics(registry))
    history = AlertHistory(database)
    limiter = RateLimiter(settings.rate_limit_per_minute, clock)
    verifier = verifier_of(settings, clock)
    clients = Clients(
        Origins(settings.allowed_origins), ClientAddresses(settings.trusted_proxies), limits, gateway
    )
    resume = AlertResume(alerts, alert_feed, history, limits, lambda: followers[0].caught_up)
    shared = Channels(
        clients=clients,
        groups=receivers,
        resume=resume,
        values={channel.name: channel for channel in channels},
        selections=UserSelections(database),
        verifier=verifier,
        closed=settings.websocket_token_required,
        clock=clock,
    )
    checks = dependency_checks(urls.nats, redis, database)
    health = Health(checks, followers, metrics_feed, limits, clock, runtime_metrics(registry))
    return Parts(
        settings=settings,
        registry=registry,
        clock=clock,
        redis=redis,
        database=database,
        verifier=verifier,
        limiter=limiter,
        counts=SharedCounts(limiter, redis, settings),
        alerts=alerts,
        receivers=receivers,
        latest=latest,
        history=history,
        channels=channels,
        clients=clients,
        alert_stream=AlertStream(clients, receivers, resume, limits, clock, shared.closed),
        channel_stream=ChannelStream(clients, shared, limits),
        health=health,
        followers=followers,
    )


def _followers(
    settings: Settings,
    limits: SidecarLimits,
    alert_feed: AlertFeed,
    metrics_feed: MetricsFeed,
    pipeline: PipelineMetrics,
) -> tuple[TopicFollower, TopicFollower]:
    """Those of alerts and of metrics."""
    access, topics = kafka_access(settings), Topics.of(settings)
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
            settings.partitions,
            StartAt(limits.metrics_records_back, _FRAMES_AT_ONCE),
            metrics_feed.take,
            metrics_feed.begin,
            pipeline,
        ),
    )
