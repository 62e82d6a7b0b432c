"""The sidecar put together: its parts and its routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from app.clock import Clock
from app.observe import metrics_response, state_response
from app.settings import Settings
from app.sidecar.alert_log import AlertLog
from app.sidecar.feeds import AlertFeed, MetricsFeed
from app.sidecar.follower import StartAt, TopicFollower
from app.sidecar.health import Health, dependency_checks
from app.sidecar.history import AlertHistory
from app.sidecar.latest import LatestMetrics
from app.sidecar.limits import SidecarLimits
from app.sidecar.middlewares import cross_origin, errors_as_json, http_metrics, request_ids
from app.sidecar.origins import Origins
from app.sidecar.page import page_response
from app.sidecar.receivers import Receivers
from app.sidecar.rest import AlertsEndpoint, MetricsEndpoint
from app.sidecar.websocket import AlertStream
from app.telemetry import database_metrics, gateway_metrics, pipeline_metrics, runtime_metrics
from app.telemetry.catalogue import RolePage
from app.topics import Topics

_ALERTS_AT_ONCE: Final = 500
_FRAMES_AT_ONCE: Final = 8
_BODY_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything the routes use and everything that runs beside them."""

    settings: Settings
    registry: CollectorRegistry
    alerts: AlertLog
    receivers: Receivers
    latest: LatestMetrics
    history: AlertHistory
    stream: AlertStream
    health: Health
    followers: tuple[TopicFollower, ...]


PARTS: Final = web.AppKey("parts", Parts)
METRICS_PAGE: Final = web.AppKey("metrics-page", RolePage)


def build_parts(
    settings: Settings, clock: Clock, redis: Redis, limits: SidecarLimits, registry: CollectorRegistry
) -> Parts:
    """Connects nothing yet. Raises SettingsError naming the servers without a URL."""
    urls, topics = settings.server_urls(), Topics.of(settings)
    pipeline, gateway = pipeline_metrics(registry), gateway_metrics(registry)
    alerts, receivers, latest = AlertLog(limits), Receivers(gateway), LatestMetrics()
    alert_feed = AlertFeed(alerts, receivers, limits, clock, pipeline)
    metrics_feed = MetricsFeed(latest, pipeline)
    alert_follower = TopicFollower(
        urls.kafka,
        topics.alerts,
        1,
        StartAt(limits.remembered_alerts + limits.repeat_distance, _ALERTS_AT_ONCE),
        alert_feed.take,
        alert_feed.begin,
        pipeline,
    )
    metrics_follower = TopicFollower(
        urls.kafka,
        topics.metrics,
        settings.partitions,
        StartAt(limits.metrics_records_back, _FRAMES_AT_ONCE),
        metrics_feed.take,
        metrics_feed.begin,
        pipeline,
    )
    history = AlertHistory(settings, database_metrics(registry))
    stream = AlertStream(
        alerts,
        alert_feed,
        receivers,
        history,
        Origins(settings.allowed_origins),
        limits,
        gateway,
        lambda: alert_follower.caught_up,
    )
    followers = (alert_follower, metrics_follower)
    checks = dependency_checks(urls.nats, redis, history)
    health = Health(checks, followers, metrics_feed, limits, clock, runtime_metrics(registry))
    return Parts(settings, registry, alerts, receivers, latest, history, stream, health, followers)


async def _health(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    report, works = parts.health.report()
    report["alerts"] = {"remembered": len(parts.alerts), "newest_seq": parts.alerts.newest_seq}
    report["symbols"] = len(parts.latest)
    report["websocket_clients"] = parts.stream.clients
    return web.json_response(report, status=200 if works else 503, headers={"Cache-Control": "no-store"})


async def _live(request: web.Request) -> web.Response:
    return state_response("live", request.app[PARTS].health.live)


async def _ready(request: web.Request) -> web.Response:
    return state_response("ready", request.app[PARTS].health.ready)


async def _metrics(request: web.Request) -> web.Response:
    return metrics_response(request.app[METRICS_PAGE])


async def _stop_clients(app: web.Application) -> None:
    app[PARTS].health.stopping = True
    await app[PARTS].stream.drain()


def create_app(parts: Parts) -> web.Application:
    """The routes over `parts`; what runs beside them is the caller's to run."""
    gateway = gateway_metrics(parts.registry)
    app = web.Application(
        middlewares=[
            request_ids(),
            http_metrics(gateway),
            cross_origin(Origins(parts.settings.allowed_origins)),
            errors_as_json(),
        ],
        client_max_size=_BODY_MAX_BYTES,
    )
    app[PARTS] = parts
    app[METRICS_PAGE] = RolePage(parts.registry, "sidecar")
    alerts, metrics = AlertsEndpoint(parts.history), MetricsEndpoint(parts.latest)
    app.router.add_get("/", page_response)
    app.router.add_get("/api/alerts", alerts.get)
    app.router.add_get("/api/metrics", metrics.get_all)
    app.router.add_get("/api/metrics/{symbol}", metrics.get_one)
    app.router.add_get("/ws/alerts", parts.stream.handle, allow_head=False)
    for path in ("/api/health", "/health"):
        app.router.add_get(path, _health)
    app.router.add_get("/health/live", _live)
    app.router.add_get("/health/ready", _ready)
    app.router.add_get("/metrics", _metrics)
    app.on_shutdown.append(_stop_clients)
    return app
