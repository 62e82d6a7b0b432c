"""The whole flow, in order.

    exchange    a simulated one, for when there is no other            app/simexchange/
    feed        exchange -> NATS candles.1m.SYM (closed), candles.live.1m.SYM (forming)   app/exchange/
    bridge      NATS -> [ingress]                                     app/ingress/bridge.py
    collector   [ingress] -> [candles]      table minutes             agents/collector.py
                [gaps]: what it misses, back to the feed, which fetches it from the exchange
    calculator  [candles] -> [metrics]      tables market, indicators agents/calculator.py
    alerts      [metrics] -> [alerts]       table rules, cooldowns    agents/alerts.py
                alert_rules -> the rules in force, followed by word   app/database/rule_watch.py
    sinks       [candles] [metrics] [alerts] -> PostgreSQL            app/database/sinks.py
    webhooks    [alerts] -> outbox in PostgreSQL -> HTTP targets      app/webhooks/service.py
    sidecar     [metrics] [alerts] + SQL -> REST, WebSocket           app/sidecar/

[x] is a Kafka topic of frames (app/frames.py), partitioned by symbol; [alerts] has one record per alert and one
partition. What cannot be used goes to [dead-letters] from any stage. The three agents run in Faust workers,
each role on its own or `all` in one; the other roles are plain asyncio services.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import faust

from agents.alerts import Alerts
from agents.calculator import Calculator
from agents.collector import Collector
from app.clock import Clock
from app.cooldown import Cooldowns
from app.database.history import database_history
from app.database.rule_watch import RuleWatch
from app.database.sinks import run_sinks
from app.exchange.feed import run_feed
from app.ingress.bridge import run_bridge
from app.role_health import dependencies_of
from app.settings import Settings
from app.sidecar.server import run_sidecar
from app.simexchange.server import run_sim_exchange
from app.topics import Topics
from app.webhooks.service import run_webhooks
from app.worker import Worker
from app.worker_edges import Edges
from tables.minutes import MinuteTable
from tables.shards import ShardTable

WORKER_ROLES: Final = ("collector", "calculator", "alerts", "all")

Service = Callable[[Settings, Clock, asyncio.Event, Callable[[bool], None] | None], Awaitable[None]]
"""Runs a role until the event is set, and tells when it is ready and when it is not."""

SERVICE_ROLES: Final[dict[str, Service]] = {
    "exchange": run_sim_exchange,
    "feed": run_feed,
    "bridge": run_bridge,
    "sinks": run_sinks,
    "webhooks": run_webhooks,
    "sidecar": run_sidecar,
}


def build_worker(role: str, settings: Settings, clock: Clock) -> faust.App:
    """The Faust app of a role: its agents in flow order, each between its topics."""
    names = ("collector", "calculator", "alerts") if role == "all" else (role,)
    ports = {name: (f"SCREENER_{name.upper()}_PORT", getattr(settings, f"{name}_port")) for name in names}
    app = Worker(role, settings, ports, dependencies_of(names, settings))
    edges = Edges(app, settings, clock)
    topics = Topics.of(settings)

    if "collector" in names:
        collector = Collector(
            MinuteTable(app, "minutes", settings.partitions),
            edges.report_gaps,
            **edges.for_stage("collector", writes=topics.candles),
        )
        app.attach(collector, reads=edges.frames(topics.ingress))

    if "calculator" in names:
        calculator = Calculator(
            MinuteTable(app, "market", settings.partitions),
            ShardTable(app, "indicators", settings.partitions),
            database_history(settings),
            **edges.for_stage("calculator", writes=topics.metrics),
        )
        app.attach(calculator, reads=edges.frames(topics.candles))

    if "alerts" in names:
        rules = RuleWatch(settings)
        app.accompany(rules)
        alerts = Alerts(
            ShardTable(app, "rules", settings.partitions),
            lambda: rules.book,
            Cooldowns(edges.redis, settings),
            edges.publish_alerts,
            **edges.for_stage("alerts", writes=topics.alerts),
        )
        app.attach(alerts, reads=edges.frames(topics.metrics))

    return app
