"""Generates `deploy/grafana/dashboards/*.json`: one overview and one dashboard per role.

`python deploy/generators/dashboards.py` writes them; `make check-deploy` fails if they are out of date or break the
rules of dashboard-linter. In an expression, HERE stands for the matchers that every selector has.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from grafana import Dashboard, Panel, Row

TARGET: Final = Path(__file__).parents[1] / "grafana" / "dashboards"
LATENCY: Final = "Latency since the first sight of the data"
LAG: Final = "Lag"
RECOVERY: Final = "Recovery"


def quantiles(metric: str, by: str = "", labels: str = "") -> tuple[tuple[str, str], ...]:
    """Return targets for the median, the 95th and the 99th percentile of a histogram."""
    extra, legend = (f"{by}, ", f"{{{{{by}}}}} ") if by else ("", "")
    inside = f"HERE, {labels}" if labels else "HERE"
    return tuple(
        (
            f"histogram_quantile({share}, sum by ({extra}le) (rate({metric}_bucket{{{inside}}}[RATE])))",
            legend + name,
        )
        for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    )


def rate(metric: str, by: str = "", labels: str = "") -> str:
    inside = f"HERE, {labels}" if labels else "HERE"
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{{{inside}}}[RATE]))"


def dead_letters(by: str, labels: str = "") -> str:
    """Return the rate of dead letters by reason (each stage has its own reasons). Without dead letters it is 0 for the
    reason `none`, as long as Prometheus has a target."""
    none = 'label_replace(0 * max(up{HERE}), "reason", "none", "", "")'
    return f"{rate('screener_dead_letters_total', by, labels)} or on () {none}"


PROCESS: Final = Row(
    "Process",
    (
        Panel(
            "Ready",
            "1 while the process is ready: partitions assigned, tables recovered, servers connected.",
            "short",
            (("max by (job, instance) (screener_ready{HERE})", "{{job}} {{instance}}"),),
            limits=((1, "green"),),
        ),
        Panel(
            "Memory",
            "Resident memory of each process.",
            "bytes",
            (
                (
                    "max by (job, instance) (process_resident_memory_bytes{HERE})",
                    "{{job}} {{instance}}",
                ),
            ),
            limits=((2 * 1024**3, "red"),),
        ),
        Panel(
            "CPU",
            "Cores that each process uses; one is the most that an event loop can.",
            "short",
            (
                (
                    "max by (job, instance) (rate(process_cpu_seconds_total{HERE}[RATE]))",
                    "{{job}} {{instance}}",
                ),
            ),
            limits=((0.9, "orange"),),
        ),
        Panel(
            "Event loop lag",
            "How late the loop wakes a waiting task.",
            "s",
            quantiles("screener_event_loop_lag_seconds"),
            limits=((1, "red"),),
        ),
        Panel(
            "Dependencies",
            "1 while a server answered when it was last asked.",
            "short",
            (("min by (job, dependency) (screener_dependency_up{HERE})", "{{job}} {{dependency}}"),),
        ),
        Panel(
            "Starts",
            "How often each process started within the last quarter of an hour.",
            "short",
            (
                (
                    "changes(process_start_time_seconds{HERE}[15m])",
                    "{{job}} {{instance}}",
                ),
            ),
            limits=((2, "red"),),
        ),
    ),
)


def stage_row(stages: str, *without: str) -> Row:
    """Return a row with the metrics of stages. stages: a regular expression for the label. without: titles of panels to
    leave out: a bridge reads no topic, and only workers have tables to recover."""
    of_stage = f'stage=~"{stages}"'
    panels = (
        Panel(
            "Rows",
            "Rows that the stage dealt with.",
            "rowsps",
            ((rate("screener_rows_total", "stage", of_stage), "{{stage}}"),),
        ),
        Panel(
            LATENCY,
            "From the time a candle was first seen to the stage being done with it.",
            "s",
            quantiles("screener_stage_latency_seconds", "stage", of_stage),
        ),
        Panel(
            LAG,
            "Records of its topics that the stage has not dealt with yet.",
            "short",
            (
                (
                    f"sum by (stage, topic) (screener_consumer_lag_records{{HERE, {of_stage}}})",
                    "{{stage}} {{topic}}",
                ),
            ),
            limits=((100, "red"),),
        ),
        Panel(
            "Dead letters",
            "Messages that could not be used, by reason.",
            "cps",
            ((dead_letters("reason", of_stage), "{{reason}}"),),
            stacked=True,
        ),
        Panel(
            RECOVERY,
            "From the assignment of partitions to their state being rebuilt: the mean of all since the start.",
            "s",
            (
                (
                    f"sum by (stage) (screener_recovery_duration_seconds_sum{{HERE, {of_stage}}})"
                    f" / sum by (stage) (screener_recovery_duration_seconds_count{{HERE, {of_stage}}})",
                    "{{stage}}",
                ),
            ),
        ),
    )
    return Row("Stage", tuple(panel for panel in panels if panel.title not in without))


OVERVIEW: Final = Dashboard(
    "screener-overview",
    "Screener / Overview",
    "The whole flow: is everything up, do candles come in, how late are alerts, what fails.",
    "screener-.+",
    (
        Row(
            "Now",
            (
                Panel(
                    "Targets up",
                    "Processes that answer Prometheus, of those it knows.",
                    "percentunit",
                    (("avg(up{HERE})", "up"),),
                    kind="stat",
                    width=4,
                    height=4,
                    limits=((0.999, "green"),),
                ),
                Panel(
                    "Candles",
                    "Candles that the collector reads a second.",
                    "rowsps",
                    ((rate("data_collector_candles_received_total"), "candles"),),
                    kind="stat",
                    width=4,
                    height=4,
                ),
                Panel(
                    "Alerts",
                    "Alerts published within the last hour.",
                    "short",
                    (("sum(increase(alert_engine_alerts_triggered_total{HERE}[1h]))", "alerts"),),
                    kind="stat",
                    width=4,
                    height=4,
                ),
                Panel(
                    "Alert latency, p99",
                    "From the first sight of a candle to Kafka having its alert.",
                    "s",
                    (quantiles("alert_engine_alert_latency_seconds")[2],),
                    kind="stat",
                    width=4,
                    height=4,
                    limits=((0.5, "red"),),
                ),
                Panel(
                    "WebSocket clients",
                    "Open connections of clients.",
                    "short",
                    (("sum(api_gateway_websocket_connections{HERE})", "clients"),),
                    kind="stat",
                    width=4,
                    height=4,
                ),
                Panel(
                    "Minutes missing",
                    "Gaps found within the last hour and not filled.",
                    "short",
                    (
                        (
                            "sum(increase(screener_gaps_total{HERE}[1h]))"
                            " - sum(increase(data_collector_filled_minutes_total{HERE}[1h]))",
                            "minutes",
                        ),
                    ),
                    kind="stat",
                    width=4,
                    height=4,
                    limits=((5, "orange"),),
                ),
            ),
        ),
        Row(
            "Flow",
            (
                Panel(
                    "Rows by stage",
                    "Each stage in flow order deals with the same candles; a gap between two lines is a loss or a lag.",
                    "rowsps",
                    ((rate("screener_rows_total", "stage"), "{{stage}}"),),
                    width=12,
                ),
                Panel(
                    "Latency by stage, p99",
                    "Since the first sight of the data; each stage includes those before it.",
                    "s",
                    (quantiles("screener_stage_latency_seconds", "stage")[2],),
                    width=12,
                ),
                Panel(
                    "Lag",
                    "Records not yet dealt with, by stage and topic, and messages waiting on NATS.",
                    "short",
                    (
                        (
                            "sum by (stage, topic) (screener_consumer_lag_records{HERE})",
                            "{{stage}} {{topic}}",
                        ),
                        ("max(nats_consumer_pending_messages{HERE})", "NATS"),
                    ),
                ),
                Panel(
                    "Dead letters",
                    "Messages that could not be used, by stage and reason.",
                    "cps",
                    ((dead_letters("stage, reason"), "{{stage}} {{reason}}"),),
                    stacked=True,
                ),
                Panel(
                    "Errors of servers",
                    "Database queries that failed and publications that NATS refused.",
                    "cps",
                    (
                        (rate("database_errors_total", "operation"), "database {{operation}}"),
                        (rate("nats_publish_errors_total"), "NATS"),
                    ),
                ),
            ),
        ),
        Row(
            "Alerts",
            (
                Panel(
                    "Alerts by rule",
                    "Alerts published, by rule.",
                    "cpm",
                    (
                        (
                            "60 * sum by (rule_type) (rate(alert_engine_alerts_triggered_total{HERE}[RATE]))",
                            "{{rule_type}}",
                        ),
                    ),
                    width=12,
                    stacked=True,
                ),
                Panel(
                    "Alert latency",
                    "From the first sight of a candle to Kafka having its alert. The promise is 99 % within 0.5 s.",
                    "s",
                    quantiles("alert_engine_alert_latency_seconds"),
                    width=12,
                    limits=((0.5, "red"),),
                ),
            ),
        ),
        PROCESS,
    ),
)

FEED: Final = Dashboard(
    "screener-feed",
    "Screener / Feed",
    "The connections to the exchange, and what is published to NATS.",
    "screener-feed",
    (
        Row(
            "Exchange",
            (
                Panel(
                    "Connections",
                    "Open connections to the exchange.",
                    "short",
                    (("sum by (instance) (data_collector_websocket_connections{HERE})", "{{instance}}"),),
                ),
                Panel(
                    "Reconnects and errors",
                    "Connections opened again, and connection errors.",
                    "cps",
                    (
                        (rate("data_collector_websocket_reconnects_total"), "reconnects"),
                        (rate("data_collector_websocket_errors_total"), "errors"),
                    ),
                ),
                Panel(
                    "Published to NATS",
                    "Messages that the stream acknowledged, and those that it refused.",
                    "cps",
                    (
                        (rate("nats_messages_published_total"), "published"),
                        (rate("nats_publish_errors_total"), "refused"),
                    ),
                ),
            ),
        ),
        Row(
            "Candles",
            (
                Panel(
                    "Updates",
                    "Candles read from sockets, forming and closed, and forming ones left out for newer ones.",
                    "rowsps",
                    (
                        (rate("screener_feed_updates_total", "kind"), "{{kind}}"),
                        (rate("screener_feed_dropped_updates_total"), "left out"),
                        (rate("screener_feed_unreadable_frames_total"), "unreadable frames"),
                    ),
                ),
                Panel(
                    "Minutes owed",
                    "Closed minutes that the exchange has had time to send and that are not there.",
                    "short",
                    (("sum(screener_feed_owed_minutes{HERE})", "owed"),),
                    limits=((1, "orange"),),
                ),
                Panel(
                    "Minutes fetched and given up",
                    "Closed minutes fetched over REST, and those that the exchange does not give.",
                    "short",
                    (
                        ("sum(increase(screener_feed_backfilled_minutes_total{HERE}[RATE]))", "fetched"),
                        ("sum(increase(screener_feed_given_up_minutes_total{HERE}[RATE]))", "given up"),
                    ),
                ),
                Panel(
                    "Symbols",
                    "Symbols that the feed follows.",
                    "short",
                    (("max(screener_feed_symbols{HERE})", "followed"),),
                ),
                Panel(
                    "REST requests",
                    "Requests to the exchange, by outcome, and whether it has asked for a pause.",
                    "reqps",
                    (
                        (rate("screener_feed_rest_requests_total", "outcome"), "{{outcome}}"),
                        ("max(screener_feed_rest_paused{HERE})", "paused"),
                    ),
                ),
                Panel(
                    "Request weight",
                    "Weight used in this minute; the exchange refuses above its limit.",
                    "short",
                    (("max(screener_feed_rest_used_weight{HERE})", "used"),),
                ),
                Panel(
                    "Connections by state",
                    "How many connections to the exchange are in each state.",
                    "short",
                    (("sum by (state) (screener_feed_connection_state{HERE})", "{{state}}"),),
                    stacked=True,
                ),
            ),
        ),
        PROCESS,
    ),
)

BRIDGE: Final = Dashboard(
    "screener-bridge",
    "Screener / Bridge",
    "From NATS to Kafka: messages taken, frames made, what waits.",
    "screener-bridge",
    (
        Row(
            "NATS",
            (
                Panel(
                    "Messages taken",
                    "Messages that the bridges were given.",
                    "cps",
                    ((rate("nats_messages_received_total", "instance"), "{{instance}}"),),
                ),
                Panel(
                    "Waiting on NATS",
                    "Messages not delivered yet, or not acknowledged; one consumer serves all bridges.",
                    "short",
                    (("max(nats_consumer_pending_messages{HERE})", "waiting"),),
                    limits=((10_000, "red"),),
                ),
                Panel(
                    "Rows a frame",
                    "How many candles a frame holds on average: many when catching up, few when alerts are fast.",
                    "short",
                    (
                        (
                            'sum(rate(screener_rows_total{HERE, stage="bridge"}[RATE]))'
                            ' / sum(rate(screener_frames_total{HERE, stage="bridge"}[RATE]))',
                            "rows",
                        ),
                    ),
                ),
            ),
        ),
        stage_row("bridge", LATENCY, LAG, RECOVERY),
        PROCESS,
    ),
)

COLLECTOR: Final = Dashboard(
    "screener-collector",
    "Screener / Collector",
    "Valid, deduplicated minutes in order of time, and every gap.",
    "screener-collector",
    (
        Row(
            "Candles",
            (
                Panel(
                    "Candles in and out",
                    "Read from [ingress], and passed on to [candles].",
                    "rowsps",
                    (
                        (rate("data_collector_candles_received_total"), "received"),
                        (rate("data_collector_candles_published_total"), "published"),
                    ),
                ),
                Panel(
                    "Closed minutes",
                    "Closed candles of minutes not known before; those that filled a gap; repeats and corrections.",
                    "rowsps",
                    (
                        (rate("data_collector_closed_minutes_total"), "new"),
                        (rate("data_collector_filled_minutes_total"), "filled a gap"),
                        (rate("screener_duplicates_total"), "repeats"),
                        (rate("screener_corrections_total"), "corrections"),
                    ),
                ),
                Panel(
                    "Minutes missing",
                    "Minutes found missing between two closed candles of a symbol, before any is filled.",
                    "short",
                    (("sum(increase(screener_gaps_total{HERE}[5m]))", "found in 5 minutes"),),
                ),
            ),
        ),
        stage_row("collector"),
        PROCESS,
    ),
)

CALCULATOR: Final = Dashboard(
    "screener-calculator",
    "Screener / Calculator",
    "The market matrix: rows computed, time a frame, memory a symbol.",
    "screener-calculator",
    (
        Row(
            "Matrix",
            (
                Panel(
                    "Candles and metrics",
                    "Candles taken in, and rows of metrics computed.",
                    "rowsps",
                    (
                        (rate("metrics_calculator_candles_processed_total"), "candles"),
                        (rate("metrics_calculator_metrics_calculated_total"), "rows of metrics"),
                    ),
                ),
                Panel(
                    "Time a frame",
                    "Computing the metrics of one frame.",
                    "s",
                    quantiles("metrics_calculator_calculation_duration_seconds"),
                    limits=((0.1, "orange"),),
                ),
                Panel(
                    "Symbols",
                    "Symbols held, by shard.",
                    "short",
                    (("sum by (shard) (metrics_calculator_symbols{HERE})", "shard {{shard}}"),),
                    stacked=True,
                ),
                Panel(
                    "Memory a symbol",
                    "Rolling state divided by symbols; the promise is under 160 KiB.",
                    "bytes",
                    (
                        (
                            "sum(metrics_calculator_memory_bytes{HERE})"
                            " / (sum(metrics_calculator_symbols{HERE}) > 0)",
                            "a symbol",
                        ),
                    ),
                    limits=((160 * 1024, "red"),),
                ),
                Panel(
                    "Minutes of history",
                    "Minutes that the rings have room for, by shard.",
                    "short",
                    (("max by (shard) (metrics_calculator_ring_buffer_size{HERE})", "shard {{shard}}"),),
                ),
            ),
        ),
        stage_row("calculator"),
        PROCESS,
    ),
)

ALERTS: Final = Dashboard(
    "screener-alerts",
    "Screener / Alerts",
    "Rules evaluated, alerts published and held back, cooldowns.",
    "screener-alerts",
    (
        Row(
            "Rules",
            (
                Panel(
                    "Rows evaluated",
                    "Rows of metrics on which all rules were evaluated.",
                    "rowsps",
                    ((rate("alert_engine_alerts_evaluated_total"), "rows"),),
                ),
                Panel(
                    "Time a frame",
                    "Evaluating all rules on one frame; the promise is a mean below 1 ms.",
                    "s",
                    quantiles("alert_engine_evaluation_duration_seconds"),
                    limits=((0.001, "orange"),),
                ),
                Panel(
                    "Alerts by rule",
                    "Alerts published, by rule.",
                    "cpm",
                    (
                        (
                            "60 * sum by (rule_type) (rate(alert_engine_alerts_triggered_total{HERE}[RATE]))",
                            "{{rule_type}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Held back",
                    "Alerts within the cooldown or of a minute that already had one.",
                    "cps",
                    ((rate("alert_engine_alerts_duplicated_total"), "held back"),),
                ),
                Panel(
                    "Alert latency",
                    "From the first sight of a candle to Kafka having its alert.",
                    "s",
                    quantiles("alert_engine_alert_latency_seconds"),
                    limits=((0.5, "red"),),
                ),
                Panel(
                    "Rules in force",
                    "Enabled rules, stored ones that do not compile, and whether the database is away (1).",
                    "short",
                    (
                        ("max(alert_engine_rules{HERE})", "enabled"),
                        ("max(alert_engine_rules_refused{HERE})", "refused"),
                        ("max(alert_engine_rules_degraded{HERE})", "without the database"),
                    ),
                ),
                Panel(
                    "Rule changes",
                    "Rules changed while running, by kind of change.",
                    "short",
                    (
                        (
                            "sum by (operation) (increase(alert_engine_rule_changes_total{HERE}[RATE]))",
                            "{{operation}}",
                        ),
                    ),
                ),
                Panel(
                    "Cooldowns without Redis",
                    "Decisions from the worker's own memory, and whether that is so now.",
                    "short",
                    (
                        (rate("screener_cooldown_fallbacks_total"), "a second"),
                        ("max(screener_cooldown_degraded{HERE})", "degraded"),
                    ),
                ),
            ),
        ),
        stage_row("alerts"),
        PROCESS,
    ),
)

MARKET: Final = Dashboard(
    "screener-market",
    "Screener / Market",
    "Minutes of the whole market: sealed, and the rules over them.",
    "screener-market",
    (
        Row(
            "Sealing",
            (
                Panel(
                    "Processes that seal",
                    "One at a time; the others stand by.",
                    "short",
                    (("sum(screener_market_reading{HERE})", "sealing"),),
                    limits=((1, "green"), (2, "red")),
                ),
                Panel(
                    "Age of the newest sealed minute",
                    "From the end of that minute; none is sealed while no rule uses the whole market.",
                    "s",
                    (("time() - 60 - (max(screener_market_sealed_minute_seconds{HERE}) > 0)", "age"),),
                    limits=((180, "red"),),
                ),
                Panel(
                    "Symbols",
                    "Symbols in the newest sealed minute.",
                    "short",
                    (("max(screener_market_sealed_symbols{HERE})", "symbols"),),
                ),
                Panel(
                    "Missing and late",
                    "Symbols that a minute was sealed without, and closed rows that came after the seal.",
                    "cps",
                    (
                        (rate("screener_market_missing_symbols_total"), "missing"),
                        (rate("screener_market_late_rows_total"), "late"),
                    ),
                ),
                Panel(
                    "Takeovers and silent partitions",
                    "How often a process began to seal, and how often a silent partition was not waited for.",
                    "short",
                    (
                        ("sum(increase(screener_market_takeovers_total{HERE}[RATE]))", "takeovers"),
                        ("sum(increase(screener_market_not_awaited_total{HERE}[RATE]))", "not waited for"),
                    ),
                ),
            ),
        ),
        stage_row("market", RECOVERY),
        PROCESS,
    ),
)

SINKS: Final = Dashboard(
    "screener-sinks",
    "Screener / Sinks",
    "Candles, metrics and alerts on their way into PostgreSQL.",
    "screener-sinks",
    (
        Row(
            "Database",
            (
                Panel(
                    "Time a batch, p95",
                    "Writing one batch, by table; the promise is a mean below 50 ms.",
                    "s",
                    (quantiles("metrics_calculator_db_insert_duration_seconds", "table")[1],),
                    limits=((0.05, "orange"),),
                ),
                Panel(
                    "Queries and errors",
                    "Queries run, and those that failed, by operation.",
                    "cps",
                    (
                        (rate("database_queries_total", "operation"), "{{operation}}"),
                        (rate("database_errors_total", "operation"), "{{operation}} failed"),
                    ),
                ),
                Panel(
                    "Connections",
                    "The pool: the most it may have, open, in use, and requests waiting for one.",
                    "short",
                    (("max by (state) (database_connection_pool_size{HERE})", "{{state}}"),),
                ),
            ),
        ),
        stage_row("sinks-.+", RECOVERY),
        PROCESS,
    ),
)

SIDECAR: Final = Dashboard(
    "screener-sidecar",
    "Screener / Sidecar",
    "REST and WebSocket: requests, errors, clients, deliveries.",
    "screener-sidecar",
    (
        Row(
            "REST",
            (
                Panel(
                    "Requests",
                    "Requests answered, by status.",
                    "reqps",
                    ((rate("api_gateway_http_requests_total", "status"), "{{status}}"),),
                    stacked=True,
                ),
                Panel(
                    "Time to answer, p95",
                    "By route; the promise is below 50 ms.",
                    "s",
                    (quantiles("api_gateway_http_duration_seconds", "route")[1],),
                    limits=((0.05, "orange"),),
                ),
                Panel(
                    "Refused as too many",
                    "Requests over the rate limit, by who was limited.",
                    "reqps",
                    ((rate("api_gateway_rate_limited_total", "reason"), "{{reason}}"),),
                ),
                Panel(
                    "Faults of ours",
                    "Share of requests answered with 5xx.",
                    "percentunit",
                    (
                        (
                            '(sum(rate(api_gateway_http_requests_total{HERE, status=~"5.."}[RATE]))'
                            " or 0 * sum(rate(api_gateway_http_requests_total{HERE}[RATE])))"
                            " / sum(rate(api_gateway_http_requests_total{HERE}[RATE]))",
                            "5xx",
                        ),
                    ),
                    limits=((0.001, "red"),),
                ),
            ),
        ),
        Row(
            "WebSocket",
            (
                Panel(
                    "Clients",
                    "Open connections, by process.",
                    "short",
                    (("sum by (instance) (api_gateway_websocket_connections{HERE})", "{{instance}}"),),
                    stacked=True,
                ),
                Panel(
                    "Messages",
                    "Messages written to clients.",
                    "cps",
                    ((rate("api_gateway_websocket_messages_sent_total"), "sent"),),
                ),
                Panel(
                    "Not delivered",
                    "Messages that did not reach a client, by reason.",
                    "cps",
                    ((rate("api_gateway_websocket_messages_failed_total", "reason"), "{{reason}}"),),
                ),
                Panel(
                    "Connections ended",
                    "By closing code: 1013 too slow or not ready, 1008 a limit, 1001 and 1012 ours, 1000 theirs.",
                    "cps",
                    ((rate("api_gateway_websocket_closed_total", "code"), "{{code}}"),),
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Database",
            (
                Panel(
                    "Connections",
                    "The pool: the most it may have, open, in use, and requests waiting for one.",
                    "short",
                    (("max by (state) (database_connection_pool_size{HERE})", "{{state}}"),),
                ),
                Panel(
                    "Queries and errors",
                    "Queries run, and those that failed, by operation.",
                    "cps",
                    (
                        (rate("database_queries_total", "operation"), "{{operation}}"),
                        (rate("database_errors_total", "operation"), "{{operation}} failed"),
                    ),
                ),
            ),
        ),
        stage_row("sidecar", RECOVERY),
        PROCESS,
    ),
)

WEBHOOKS: Final = Dashboard(
    "screener-webhooks",
    "Screener / Webhooks",
    "Deliveries to the endpoints of users and teams.",
    "screener-webhooks",
    (
        Row(
            "Deliveries",
            (
                Panel(
                    "Attempts",
                    "Webhooks delivered, and attempts that failed and are tried again.",
                    "cps",
                    (
                        (rate("alert_engine_webhooks_sent_total"), "delivered"),
                        (rate("alert_engine_webhooks_failed_total"), "failed"),
                    ),
                ),
                Panel(
                    "Failing",
                    "Share of attempts that failed.",
                    "percentunit",
                    (
                        (
                            "sum(rate(alert_engine_webhooks_failed_total{HERE}[RATE]))"
                            " / (sum(rate(alert_engine_webhooks_sent_total{HERE}[RATE]))"
                            " + sum(rate(alert_engine_webhooks_failed_total{HERE}[RATE])))",
                            "failed",
                        ),
                    ),
                    limits=((0.1, "red"),),
                ),
                Panel(
                    "Queries and errors",
                    "Queries of the outbox, and those that failed, by operation.",
                    "cps",
                    (
                        (rate("database_queries_total", "operation"), "{{operation}}"),
                        (rate("database_errors_total", "operation"), "{{operation}} failed"),
                    ),
                ),
            ),
        ),
        Row(
            "Outbox",
            (
                Panel(
                    "Time to delivery",
                    "From the publication of an alert to its delivery.",
                    "s",
                    quantiles("screener_webhook_delivery_seconds"),
                ),
                Panel(
                    "Time of a request",
                    "One attempt, answered or not.",
                    "s",
                    quantiles("screener_webhook_attempt_seconds"),
                ),
                Panel(
                    "Messages",
                    "Messages in the outbox, by state.",
                    "short",
                    (("max by (state) (screener_webhook_outbox_messages{HERE})", "{{state}}"),),
                    stacked=True,
                ),
                Panel(
                    "Oldest due",
                    "How long the oldest message is due that may be sent.",
                    "s",
                    (("max(screener_webhook_oldest_due_seconds{HERE})", "oldest"),),
                    limits=((600, "red"),),
                ),
                Panel(
                    "Failures by reason",
                    "Attempts that failed, by reason.",
                    "cps",
                    ((rate("alert_engine_webhooks_failed_total", "reason"), "{{reason}}"),),
                    stacked=True,
                ),
                Panel(
                    "Given up and switched off",
                    "Webhooks given up after a day, and targets switched off, within the last hour.",
                    "short",
                    (
                        ("sum(increase(screener_webhooks_dead_total{HERE}[1h]))", "given up"),
                        ("sum(increase(screener_webhook_targets_disabled_total{HERE}[1h]))", "switched off"),
                    ),
                ),
            ),
        ),
        stage_row("webhooks", RECOVERY),
        PROCESS,
    ),
)

DASHBOARDS: Final = (OVERVIEW, FEED, BRIDGE, COLLECTOR, CALCULATOR, ALERTS, MARKET, SINKS, SIDECAR, WEBHOOKS)


def render() -> dict[str, str]:
    """Return file name -> content."""
    return {
        f"{dashboard.uid}.json": json.dumps(dashboard.json(), indent=2) + "\n" for dashboard in DASHBOARDS
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    for name, text in render().items():
        (folder / name).write_text(text)
