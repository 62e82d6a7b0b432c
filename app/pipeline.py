"""The whole flow, in order.

    exchange    app/simexchange/        a simulated one, for when there is no other
    feed        app/exchange/           exchange -> NATS candles.1m.SYM (closed), candles.live.1m.SYM (forming)
                                        bars of long timeframes -> [candles], to warm up indicators
                                        24 h tickers -> Redis
    bridge      app/ingress/bridge.py   NATS -> [ingress]
    collector   agents/collector.py     [ingress] -> [candles]   table minutes
                                        missing minutes -> [gaps] -> feed, which fetches them from the exchange
    calculator  agents/calculator.py    [candles] -> [metrics]   tables market, indicators
                                        PostgreSQL -> the past that its tables lack after a start
    alerts      agents/alerts.py        [metrics] -> [alerts]    table rules; cooldowns in Redis
                                        alert_rules in PostgreSQL -> the rules in force, followed as they change
    sinks       app/database/sinks.py   [candles] [metrics] [alerts] -> PostgreSQL
    webhooks    app/webhooks/           [alerts] -> outbox in PostgreSQL -> HTTP targets
    sidecar     app/sidecar/            [metrics] [alerts], PostgreSQL, tickers -> REST, WebSocket, the page

[x] is a Kafka topic. [ingress], [candles] and [metrics] hold frames (app/frames.py) and are partitioned by symbol;
[alerts], [gaps] and [dead-letters] hold JSON records, in one partition each. What a role cannot use it sends to
[dead-letters]; feed and sidecar only count it. The three agents run in Faust workers, each role on its own or `all` in
one; the other roles are plain asyncio services.
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
