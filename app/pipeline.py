"""The whole flow, in order.

    exchange    app/local/exchange/     a simulated one, for when there is no other
    feed        app/feed/               exchange -> NATS candles.1m.SYM (closed), candles.live.1m.SYM (forming)
                                        bars of long timeframes -> [candles], for indicators and charts
                                        24 h tickers -> Redis
    bridge      app/bridge/             NATS -> [ingress]
    collector   agents/collector.py     [ingress] -> [candles]   table minutes
                                        missing minutes -> [gaps] -> feed, which fetches them from the exchange
    calculator  agents/calculator.py    [candles] -> [metrics]   tables market, indicators
                                        PostgreSQL -> the past that its tables lack after a start
    alerts      agents/alerts.py        [metrics] -> [alerts]    tables rules, rule_minutes, rule_bars
                                        app/alerts/: the rules' memory, cooldowns in Redis
                                        PostgreSQL -> the past of new rules that look back
                                        alert_rules in PostgreSQL -> the active rules, followed as they change
    market      app/market_wide/        [metrics] of all symbols -> sealed minutes -> [market]
                                        rules that look at the whole market -> [alerts]
                                        PostgreSQL -> the past that these rules look back at
                                        fences -> [ingress]; they come back behind all records under way
    sinks       app/sinks/              [candles] [metrics] [alerts] -> PostgreSQL
    webhooks    app/webhooks/           [alerts] -> outbox in PostgreSQL -> HTTP targets
    sidecar     app/sidecar/            [metrics] [market] [alerts], PostgreSQL, tickers -> REST, WebSocket, the page

[x] is a Kafka topic. [ingress], [candles] and [metrics] hold frames (app/wire/frames.py) and are partitioned by
symbol; [market] holds minutes of all symbols, [alerts], [gaps] and [dead-letters] hold JSON records, in one partition
each. A role sends records it cannot use to [dead-letters]; feed, market and sidecar only count them. The three agents
run in Faust workers, each role on its own or `all` in one; the other roles are plain asyncio services, run by
app/cli/roles.py.
"""

from __future__ import annotations

from typing import Final

import faust

from agents.alerts import Alerts
from agents.calculator import Calculator
from agents.collector import Collector
from app.alerts.cooldowns import Cooldowns
from app.alerts.known_rules import KnownRules
from app.alerts.rule_watch import RuleWatch
from app.alerts.switched_off import SwitchedOffBoard
from app.clock import Clock
from app.database.candles.minutes import database_history
from app.database.candles.stored_bars import database_bars
from app.process.faust_worker.options import WorkerOptions
from app.process.faust_worker.stage_edges import Edges
from app.process.faust_worker.worker import Worker
from app.process.health.process import RolePages
from app.role_health import dependencies_of
from app.rules.ahead import call_rule_kernels, compile_ahead
from app.settings import Settings
from app.telemetry import alert_metrics, database_metrics
from app.telemetry.catalogue import RoleRegistry
from app.wire.topics import Topics, symbols_of_a_shard
from tables.minutes import MinuteTable
from tables.shards import ShardTable

WORKER_ROLES: Final = ("collector", "calculator", "alerts", "all")


def build_worker(role: str, settings: Settings, clock: Clock) -> faust.App:
    """Return the Faust app of a role: its agents in flow order, each between its topics."""
    names = ("collector", "calculator", "alerts") if role == "all" else (role,)
    registries = {name: RoleRegistry(name) for name in names}
    pages = {
        name: RolePages(f"SCREENER_{name.upper()}_PORT", getattr(settings, f"{name}_port"), registry)
        for name, registry in registries.items()
    }
    options = WorkerOptions.of(settings)
    kafka, redis = options.kafka, options.redis
    app = Worker(role, options, pages, dependencies_of(names, settings.servers()))
    edges = Edges(app, kafka, redis, settings.data_dir, clock)
    topics = Topics.of(kafka.namespace)

    if "collector" in names:
        collector = Collector(
            MinuteTable(app, "minutes", settings.partitions),
            edges.report_gaps,
            symbols_of_a_shard(settings.symbols_max, settings.partitions),
            edges.for_stage("collector", registries["collector"], writes=topics.candles),
        )
        app.attach(collector, reads=edges.frames(topics.ingress))

    if "calculator" in names:
        registry = registries["calculator"]
        compile_ahead()
        calculator = Calculator(
            MinuteTable(app, "market", settings.partitions),
            ShardTable(app, "indicators", settings.partitions),
            database_history(settings.postgres(), settings.partitions, database_metrics(registry)),
            database_bars(settings.postgres(), database_metrics(registry)),
            edges.for_stage("calculator", registry, writes=topics.metrics),
        )
        app.attach(calculator, reads=edges.frames(topics.candles))

    if "alerts" in names:
        registry = registries["alerts"]
        call_rule_kernels()
        rules = RuleWatch(
            settings.postgres(),
            KnownRules(settings.data_dir, settings.names()),
            settings.alert_mode,
            clock,
            registry,
        )
        app.accompany(rules)
        app.accompany(SwitchedOffBoard(edges.redis, settings.names(), rules.switched_off, clock))
        alerts = Alerts(
            ShardTable(app, "rules", settings.partitions),
            MinuteTable(app, "rule_minutes", settings.partitions),
            ShardTable(app, "rule_bars", settings.partitions),
            database_history(settings.postgres(), settings.partitions, database_metrics(registry)),
            rules,
            Cooldowns(edges.redis, settings.names(), alert_metrics(registry)),
            edges.publish_alerts,
            backfilled_after_ms=settings.alert_backfilled_after_s * 1000,
            edges=edges.for_stage("alerts", registry, writes=topics.alerts),
        )
        app.attach(alerts, reads=edges.frames(topics.metrics))

    return app
