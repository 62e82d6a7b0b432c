"""The dashboards follow the rules of dashboard-linter (by name), and query only exported metrics.

Two rules do not apply, `target-logql-rule` and `target-logql-auto-rule`, because no panel queries Loki.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from charts import ROLES
from panels import FILES, LOADED, expressions, panels, plain
from programs import ROOT
from promql import FOREIGN, OF_TARGETS, children, exported, lost_labels, recorded, selectors

SPECIFIED = (
    "data_collector_candles_received_total", "data_collector_candles_published_total",
    "data_collector_websocket_connections", "data_collector_websocket_reconnects_total",
    "data_collector_websocket_errors_total", "metrics_calculator_candles_processed_total",
    "metrics_calculator_metrics_calculated_total", "metrics_calculator_db_insert_duration_seconds",
    "metrics_calculator_calculation_duration_seconds", "metrics_calculator_ring_buffer_size",
    "database_connection_pool_size", "alert_engine_alerts_evaluated_total", "alert_engine_alerts_triggered_total",
    "alert_engine_alerts_duplicated_total", "alert_engine_evaluation_duration_seconds",
    "alert_engine_webhooks_sent_total", "alert_engine_webhooks_failed_total", "api_gateway_http_requests_total",
    "api_gateway_http_duration_seconds", "api_gateway_websocket_connections",
    "api_gateway_websocket_messages_sent_total", "api_gateway_websocket_messages_failed_total",
    "nats_messages_published_total", "nats_messages_received_total", "nats_publish_errors_total",
    "database_queries_total", "database_errors_total", "screener_consumer_lag_records", "screener_gaps_total",
    "screener_dead_letters_total", "screener_cooldown_fallbacks_total", "screener_stage_latency_seconds",
    "metrics_calculator_memory_bytes",
)  # fmt: skip


def ranges(expression: str) -> Iterator[tuple[str | None, str]]:
    """Yield (function around it, metric) of every range in an expression."""

    def walk(node: Any, function: str | None) -> Iterator[tuple[str | None, str]]:
        if isinstance(node, promql_parser.MatrixSelector):
            yield function, node.vector_selector.name
        if isinstance(node, promql_parser.VectorSelector):
            yield None, node.name
            return
        if isinstance(node, promql_parser.Call):
            function = node.func.name
        for child in children(node):
            yield from walk(child, function)

    return walk(promql_parser.parse(expression), None)


@pytest.fixture(params=sorted(LOADED), ids=str)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    return LOADED[request.param]


def variable(dashboard: dict[str, Any], name: str) -> dict[str, Any]:
    return next(found for found in dashboard["templating"]["list"] if found["name"] == name)


def test_there_is_an_overview_and_one_for_each_role():
    assert set(LOADED) == {"screener-overview", *(f"screener-{role}" for role in ROLES)}


def test_the_files_are_what_the_script_writes(tmp_path: Path):
    script = ROOT / "deploy" / "generators" / "dashboards.py"
    subprocess.run([sys.executable, script, tmp_path], check=True)
    written = {path.name: path.read_text() for path in tmp_path.glob("*.json")}
    assert {path.name: path.read_text() for path in FILES} == written, (
        f"run python {script.relative_to(ROOT)}"
    )


def test_template_datasource_rule(dashboard: dict[str, Any]):
    found = variable(dashboard, "datasource")
    assert (found["type"], found["query"]) == ("datasource", "prometheus")


@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_and_instance_rules(dashboard: dict[str, Any], name: str):
    found = variable(dashboard, name)
    assert found["type"] == "query"
    assert found["datasource"]["uid"] == "${datasource}"
    assert found["multi"] is True
    assert found["allValue"] == ".+"


def test_template_label_promql_rule(dashboard: dict[str, Any]):
    for name in ("job", "instance"):
        inside = re.fullmatch(r"label_values\((.+), \w+\)", variable(dashboard, name)["query"]["query"])
        assert inside
        assert promql_parser.parse(plain(inside[1]))


def test_template_on_time_change_reload_rule(dashboard: dict[str, Any]):
    assert [variable(dashboard, name)["refresh"] for name in ("job", "instance")] == [2, 2]


@pytest.mark.parametrize("name", ["namespace", "release"])
def test_a_release_can_be_chosen_and_all_includes_targets_of_none(dashboard: dict[str, Any], name: str):
    assert variable(dashboard, name)["allValue"] == ".*"
    for expression in expressions(dashboard):
        for selector in selectors(expression.replace("$__rate_interval", "1m")):
            matchers = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
            assert matchers[name] == f"${name}"


def test_thresholds_change_the_colour(dashboard: dict[str, Any]):
    for panel in panels(dashboard):
        colours = [step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert all(before != after for before, after in itertools.pairwise(colours)), panel["title"]


def test_uneditable_dashboard_rule(dashboard: dict[str, Any]):
    assert dashboard["editable"] is False


def test_panels_do_not_overlap_and_have_numbers_of_their_own(dashboard: dict[str, Any]):
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_panel_rules(dashboard: dict[str, Any]):
    for panel in panels(dashboard):
        assert panel["datasource"]["uid"] == "${datasource}", "panel-datasource-rule"
        assert panel["title"], "panel-title-description-rule"
        assert len(panel["description"].split()) > 3, "panel-title-description-rule"
        assert panel["fieldConfig"]["defaults"]["unit"], "panel-units-rule"
        assert panel["targets"], "panel-no-targets-rule"


def test_target_promql_rule(dashboard: dict[str, Any]):
    for expression in expressions(dashboard):
        assert promql_parser.parse(plain(expression))


def test_target_rate_interval_rule(dashboard: dict[str, Any]):
    for expression in expressions(dashboard):
        for inside in re.findall(r"\bi?rate\([^\[]*\[([^\]]+)\]", expression):
            assert inside == "$__rate_interval"


def test_target_job_and_instance_rules(dashboard: dict[str, Any]):
    for expression in expressions(dashboard):
        for selector in selectors(expression.replace("$__rate_interval", "1m")):
            matchers = {matcher.name: matcher for matcher in selector.matchers.matchers}
            assert matchers["job"].value == "$job"
            assert matchers["instance"].value == "$instance"
            assert {str(matchers[name].op) for name in ("job", "instance")} == {"MatchOp.Re"}


def test_target_counter_agg_rule(dashboard: dict[str, Any]):
    for expression in expressions(dashboard):
        for function, metric in ranges(plain(expression)):
            if metric.endswith("_total"):
                assert function in {"rate", "irate", "increase"}, f"{metric} outside of a rate"


def test_targets_ask_only_for_what_is_exported_with_labels_that_it_has(dashboard: dict[str, Any]):
    for expression in expressions(dashboard):
        assert lost_labels(plain(expression)) == set(), expression
        known = exported()
        for selector in selectors(plain(expression)):
            assert selector.name in set(known) | recorded() | FOREIGN, selector.name
            if selector.name in known:
                asked = {matcher.name for matcher in selector.matchers.matchers}
                assert asked <= known[selector.name] | OF_TARGETS


def test_every_metric_that_the_screener_promises_is_on_some_dashboard():
    shown = {
        selector.name
        for name in LOADED
        for panel in panels(LOADED[name])
        for target in panel["targets"]
        for selector in selectors(plain(target["expr"]))
    }
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert set(SPECIFIED) - families == set()


def test_grafana_is_told_of_the_datasource_and_of_the_folder():
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert [(source["type"], source["uid"], source["editable"]) for source in sources] == [
        ("prometheus", "prometheus", False)
    ]
    providers = yaml.safe_load((provisioning / "dashboards" / "screener.yaml").read_text())["providers"]
    assert [provider["type"] for provider in providers] == ["file"]
