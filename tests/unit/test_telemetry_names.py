"""The names of the metrics, the ports they are served on, and the page that documents them."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app import telemetry
from app.observe import serve_health
from app.settings import Settings
from app.telemetry import document
from app.telemetry.catalogue import GROUPS, ROLE_PORTS, RolePage

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
PROCESS_NAMES = {"screener_ready", "screener_event_loop_lag_seconds", "screener_disk_free_bytes"}


def names_on(page: RolePage) -> set[str]:
    families = text_string_to_metric_families(generate_latest(page).decode())
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in families}


@pytest.mark.parametrize("role", ROLE_PORTS)
def test_every_name_of_a_role_is_on_its_page_before_anything_has_happened(role):
    expected = NAMES_BY_ROLE[role] | PROCESS_NAMES | STAGE_NAMES
    assert expected - names_on(RolePage(CollectorRegistry(), role)) == set()


def test_a_worker_of_three_roles_shows_on_each_port_what_belongs_to_that_role_only():
    registry = CollectorRegistry()
    pages = {role: RolePage(registry, role) for role in ("collector", "calculator", "alerts")}
    for role, page in pages.items():
        of_others = set().union(*(NAMES_BY_ROLE[other] for other in NAMES_BY_ROLE if other != role))
        assert names_on(page) & (of_others - NAMES_BY_ROLE[role]) <= {
            "database_connection_pool_size",
            "database_queries_total",
            "database_errors_total",
            "metrics_calculator_db_insert_duration_seconds",
        }
    frames = telemetry.pipeline_metrics(registry).frames
    frames.labels("collector").inc(2)
    frames.labels("alerts").inc(3)
    totals = {}
    for role, page in pages.items():
        families = {f.name: f for f in text_string_to_metric_families(generate_latest(page).decode())}
        totals[role] = {
            s.labels["stage"]: s.value for s in families["screener_frames"].samples if "stage" in s.labels
        }
    assert totals == {
        "collector": {"collector": 2.0},
        "calculator": {"calculator": 0.0},
        "alerts": {"alerts": 3.0},
    }


def test_the_page_of_the_sinks_shows_each_of_their_three_tables():
    registry = CollectorRegistry()
    page = RolePage(registry, "sinks")
    telemetry.pipeline_metrics(registry).rows.labels("sinks-alerts").inc()
    telemetry.pipeline_metrics(registry).rows.labels("bridge").inc()
    text = generate_latest(page).decode()
    assert 'screener_rows_total{stage="sinks-alerts"} 1.0' in text
    assert 'stage="bridge"' not in text


def test_metrics_of_the_client_library_are_on_every_page():
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for role in ROLE_PORTS:
        assert "process_resident_memory_bytes" in names_on(RolePage(registry, role))


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
    assert (ROOT / "deploy" / "METRICS.md").read_text() == document.render(), (
        "run python -m app.telemetry.document > deploy/METRICS.md"
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
            registry=CollectorRegistry(),
            role="bridge",
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
