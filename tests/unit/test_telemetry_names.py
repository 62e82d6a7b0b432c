"""The names of the metrics, the ports they are served on, and the page that documents them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app import telemetry
from app.settings import Settings
from app.telemetry import metrics_document
from app.telemetry.catalogue import GROUPS, ROLE_PORTS, RoleRegistry
from app.telemetry.health_server import serve_health

ROOT = Path(__file__).resolve().parents[2]

NAMES_BY_ROLE = {
    "feed": {
        "data_collector_websocket_connections",
        "data_collector_websocket_reconnects_total",
        "data_collector_websocket_errors_total",
        "nats_messages_published_total",
        "nats_publish_errors_total",
    },
    "bridge": {"nats_messages_received_total", "nats_consumer_pending_messages"},
    "collector": {"data_collector_candles_received_total", "data_collector_candles_published_total"},
    "calculator": {
        "metrics_calculator_candles_processed_total",
        "metrics_calculator_metrics_calculated_total",
        "metrics_calculator_calculation_duration_seconds",
        "metrics_calculator_ring_buffer_size",
        "metrics_calculator_memory_bytes",
    },
    "alerts": {
        "alert_engine_alerts_evaluated_total",
        "alert_engine_alerts_triggered_total",
        "alert_engine_alerts_duplicated_total",
        "alert_engine_evaluation_duration_seconds",
        "screener_cooldown_fallbacks_total",
    },
    "market": {"screener_market_sealed_minute_seconds", "screener_market_late_rows_total"},
    "webhooks": {"alert_engine_webhooks_sent_total", "alert_engine_webhooks_failed_total"},
    "sinks": {
        "metrics_calculator_db_insert_duration_seconds",
        "database_connection_pool_size",
        "database_queries_total",
        "database_errors_total",
    },
    "sidecar": {
        "api_gateway_http_requests_total",
        "api_gateway_http_duration_seconds",
        "api_gateway_websocket_connections",
        "api_gateway_websocket_messages_sent_total",
        "api_gateway_websocket_messages_failed_total",
        "database_connection_pool_size",
    },
}
"""Spec 9, by the role that fills each."""
STAGE_NAMES = {
    "screener_frames_total",
    "screener_rows_total",
    "screener_dead_letters_total",
    "screener_stage_latency_seconds",
    "screener_consumer_lag_records",
}
PROCESS_NAMES = {
    "screener_ready",
    "screener_event_loop_lag_seconds",
    "screener_disk_free_bytes",
    "screener_memory_limit_bytes",
}


def names_on(registry: CollectorRegistry) -> set[str]:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in families}


@pytest.mark.parametrize("role", ROLE_PORTS)
def test_every_name_of_a_role_is_on_its_page_before_anything_has_happened(role):
    expected = NAMES_BY_ROLE[role] | PROCESS_NAMES | STAGE_NAMES
    assert expected - names_on(RoleRegistry(role, CollectorRegistry())) == set()


@pytest.mark.parametrize("role", ROLE_PORTS)
def test_the_page_of_a_role_has_the_metrics_of_its_groups_and_no_others(role: str):
    wanted: set[str] = set()
    for group in GROUPS:
        if role in group.roles:
            registry = CollectorRegistry()
            group.metrics_of(registry)
            wanted |= {family.name for family in registry.collect()}
    shown = RoleRegistry(role, CollectorRegistry())
    assert Counter(family.name for family in shown.collect()) == Counter(wanted)


def test_roles_of_one_process_share_the_metrics_of_the_process_only():
    process = CollectorRegistry()
    registries = {role: RoleRegistry(role, process) for role in ("collector", "calculator", "alerts")}
    telemetry.runtime_metrics(process).task_failures.labels(task="x").inc()
    telemetry.pipeline_metrics(registries["collector"]).frames.labels("collector").inc(2)
    telemetry.pipeline_metrics(registries["alerts"]).frames.labels("alerts").inc(3)
    telemetry.database_metrics(registries["alerts"]).queries.labels(operation="x").inc()
    assert {
        role: {
            (sample.name, *sample.labels.values()): sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name
            in ("screener_frames_total", "database_queries_total", "screener_task_failures_total")
        }
        for role, registry in registries.items()
    } == {
        "collector": {
            ("screener_task_failures_total", "x"): 1.0,
            ("screener_frames_total", "collector"): 2.0,
        },
        "calculator": {
            ("screener_task_failures_total", "x"): 1.0,
            ("screener_frames_total", "calculator"): 0.0,
        },
        "alerts": {
            ("screener_task_failures_total", "x"): 1.0,
            ("screener_frames_total", "alerts"): 3.0,
            ("database_queries_total", "x"): 1.0,
        },
    }


def test_the_page_of_the_sinks_shows_each_of_their_three_tables():
    registry = RoleRegistry("sinks", CollectorRegistry())
    telemetry.pipeline_metrics(registry).rows.labels("sinks-alerts").inc()
    text = generate_latest(registry).decode()
    for table, rows in (("candles", "0.0"), ("metrics", "0.0"), ("alerts", "1.0")):
        assert f'screener_rows_total{{stage="sinks-{table}"}} {rows}' in text


def test_metrics_of_the_client_library_are_on_every_page():
    process = CollectorRegistry()
    ProcessCollector(registry=process)
    for role in ROLE_PORTS:
        assert "process_resident_memory_bytes" in names_on(RoleRegistry(role, process))


def test_every_function_that_makes_metrics_is_in_the_catalogue():
    makers = {found for name, found in vars(telemetry).items() if name.endswith("_metrics")}
    assert {group.metrics_of for group in GROUPS} == makers


def test_the_ports_of_the_catalogue_are_the_defaults_of_the_settings():
    fields = Settings.model_fields
    setting_of = {role: f"{role}_port" for role in ROLE_PORTS} | {"sidecar": "sidecar_metrics_port"}
    known = {role: name for role, name in setting_of.items() if name in fields}
    assert {role: fields[name].default for role, name in known.items()} == {
        role: ROLE_PORTS[role] for role in known
    }
    assert len(known) >= 6


def test_no_label_has_values_that_users_or_the_market_could_multiply():
    unbounded = {"symbol", "path", "url", "user", "client", "address", "id", "instance", "job"}
    registry = CollectorRegistry()
    for group in GROUPS:
        for family in group.families(registry).values():
            assert not set(family._labelnames) & unbounded, family._name


def test_every_duration_is_a_histogram_with_buckets_around_its_targets():
    """Spec 10: alert evaluation below 1 ms, inserts below 50 ms, requests below 50 ms, alerts below 100 ms."""
    targets_s = {
        "alert_engine_evaluation_duration_seconds": 0.001,
        "metrics_calculator_db_insert_duration_seconds": 0.05,
        "api_gateway_http_duration_seconds": 0.05,
        "alert_engine_alert_latency_seconds": 0.1,
        "metrics_calculator_calculation_duration_seconds": 0.01,
    }
    registry = CollectorRegistry()
    families = {f._name: f for group in GROUPS for f in group.families(registry).values()}
    for name, target_s in targets_s.items():
        bounds = families[name]._kwargs["buckets"]
        assert target_s in bounds
        assert min(bounds) < target_s < max(bounds)


def test_the_documentation_is_what_the_code_would_write():
    assert (ROOT / "deploy" / "METRICS.md").read_text() == metrics_document.render(), (
        "run python -m app.telemetry.metrics_document > deploy/METRICS.md"
    )


async def test_a_role_serves_its_page_and_three_different_answers_about_its_health():
    async with (
        serve_health(
            "127.0.0.1",
            0,
            live=lambda: True,
            ready=lambda: False,
            report=lambda: ({"status": "down", "dependencies": {"nats": {"state": "down"}}}, False),
            setting="PORT",
            registry=RoleRegistry("bridge", CollectorRegistry()),
        ) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        answers = {}
        for path in ("/health/live", "/health/ready", "/health"):
            async with session.get(path) as answer:
                answers[path] = (answer.status, await answer.json())
        async with session.get("/metrics") as answer:
            page = await answer.text()
    assert answers["/health/live"] == (200, {"live": True})
    assert answers["/health/ready"] == (503, {"ready": False})
    assert answers["/health"] == (503, {"status": "down", "dependencies": {"nats": {"state": "down"}}})
    assert "nats_messages_received_total" in page
    assert "api_gateway_http_requests_total" not in page


@pytest.mark.parametrize(
    ("role", "counter"),
    [
        ("feed", "screener_feed_updates_total"),
        ("feed", "screener_feed_ahead_updates_total"),
        ("feed", "screener_feed_rest_requests_total"),
        ("alerts", "alert_engine_rule_changes_total"),
        ("market", "alert_engine_rule_changes_total"),
        ("sidecar", "api_gateway_rate_limited_total"),
        ("sidecar", "api_gateway_connections_cut_total"),
        ("sidecar", "api_gateway_websocket_messages_failed_total"),
        ("sidecar", "api_gateway_websocket_closed_total"),
        ("calculator", "screener_snapshots_unusable_total"),
        ("calculator", "screener_quarantined_total"),
    ],
)
def test_counters_by_reason_start_at_zero_so_that_the_first_event_is_an_increase(role: str, counter: str):
    registry = RoleRegistry(role, CollectorRegistry())
    values = [
        sample.value for family in registry.collect() for sample in family.samples if sample.name == counter
    ]
    assert set(values) == {0.0}


def test_the_errors_of_a_query_start_at_zero_with_its_first_call():
    registry = CollectorRegistry()
    telemetry.database_metrics(registry).asked("read_rules")
    labels = {"operation": "read_rules"}
    assert registry.get_sample_value("database_queries_total", labels) == 1.0
    assert registry.get_sample_value("database_errors_total", labels) == 0.0
