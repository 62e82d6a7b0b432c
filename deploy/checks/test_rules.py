"""Prometheus rules and Alertmanager's routes are valid, tested case by case, and say what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from charts import ROLES
from programs import ROOT, run
from promql import (
    FOREIGN,
    OF_TARGETS,
    RULES,
    aggregations,
    alerts,
    all_rules,
    exported,
    lost_labels,
    names,
    recorded,
    selectors,
)

PROMETHEUS = ROOT / "deploy" / "prometheus"
TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))
RUNBOOKS = ROOT / "deploy" / "runbooks"
ALERTMANAGER = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
PRODUCTION = (
    "ScreenerServiceDown",
    "ScreenerHighErrorRate",
    "ScreenerDatabasePoolExhausted",
    "ScreenerLowWebSocketConnections",
    "ScreenerNatsMessageLag",
    "ScreenerHighMemoryUsage",
    "ScreenerSlowDatabaseInserts",
    "ScreenerSlowAlertEvaluation",
    "ScreenerHighWebhookFailureRate",
    "ScreenerLowDiskSpace",
    "ScreenerPodRestarting",
)
ALERT_NAMES = sorted({alert["alert"] for alert in alerts()})


def test_the_eleven_production_alerts_are_there():
    assert set(PRODUCTION) - set(ALERT_NAMES) == set()


@pytest.mark.parametrize("file", RULES, ids=lambda path: path.name)
def test_promtool_finds_nothing_in_the_rules(file: Path):
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", file)


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.name)
def test_every_case_of_the_rules_ends_as_written(file: Path):
    run("promtool", "test", "rules", file)


def test_prometheus_takes_its_configuration():
    run("promtool", "check", "config", PROMETHEUS / "prometheus.yml")


def test_the_rules_of_the_objectives_are_what_their_script_writes():
    script = ROOT / "deploy" / "generators" / "slo_rules.py"
    written = subprocess.run(
        [sys.executable, script, "--print"], check=True, capture_output=True, text=True
    ).stdout
    assert (PROMETHEUS / "rules" / "slo.yaml").read_text() == written, (
        f"run python {script.relative_to(ROOT)}"
    )


def test_the_inventory_of_alerts_is_what_its_script_writes():
    script = ROOT / "deploy" / "generators" / "alert_inventory.py"
    written = subprocess.run([sys.executable, script, "--print"], check=False, capture_output=True, text=True)
    assert (ROOT / "deploy" / "ALERTS.md").read_text() == written.stdout, (
        f"run python {script.relative_to(ROOT)}\n{written.stderr}"
    )


def test_the_inventory_names_each_exporter_of_the_chart():
    named = set(re.findall(r"`exporters\.(\w+)\.enabled`", (ROOT / "deploy" / "ALERTS.md").read_text()))
    values = yaml.safe_load((ROOT / "deploy" / "helm" / "screener" / "values.yaml").read_text())
    assert named == set(values["exporters"]) - {"resources"}


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(name: str):
    ends = Counter()
    for file in TESTS:
        for case in yaml.safe_load(file.read_text())["tests"]:
            for query in case.get("promql_expr_test", ()):
                if f'"{name}"' in query["expr"]:
                    ends["fires" if query["exp_samples"] else "is silent"] += 1
            for rule in case.get("alert_rule_test", ()):
                if rule["alertname"] == name:
                    ends["fires" if rule["exp_alerts"] else "is silent"] += 1
    wanted = {"fires"} if name == "ScreenerDeadMan" else {"fires", "is silent"}
    assert set(ends) >= wanted


@pytest.mark.parametrize("alert", alerts(), ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_it_is_what_is_wrong_and_what_to_do(alert: dict):
    name = alert["alert"]
    assert name.startswith("Screener")
    assert alert["labels"]["severity"] in {"critical", "warning", "info", "none"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"https://screener.example/runbooks/{name}.md"
    if name != "ScreenerDeadMan":
        assert re.fullmatch(r"[1-9][0-9]*[sm]", alert["for"])


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_every_alert_has_a_runbook_of_four_parts(name: str):
    text = (RUNBOOKS / f"{name}.md").read_text()
    parts = re.split(r"^## ", text, flags=re.MULTILINE)
    assert parts[0].startswith(f"# {name}\n")
    assert [part.partition("\n")[0] for part in parts[1:]] == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    for part in parts[1:]:
        assert len(part.split()) > 10, part


def test_every_runbook_of_an_alert_belongs_to_one():
    assert {path.stem for path in RUNBOOKS.glob("Screener*.md")} == set(ALERT_NAMES)


def test_rules_ask_only_for_what_is_exported_or_recorded():
    known = set(exported()) | recorded() | FOREIGN
    unknown = {rule.get("alert") or rule["record"]: names(rule["expr"]) - known for rule in all_rules()}
    assert {name: missing for name, missing in unknown.items() if missing} == {}


def test_rules_match_and_group_by_only_labels_that_the_metrics_have():
    known = exported()
    for rule in all_rules():
        for selector in selectors(rule["expr"]):
            asked = {matcher.name for matcher in selector.matchers.matchers}
            assert asked <= known.get(selector.name, asked) | OF_TARGETS, rule["expr"]
        assert lost_labels(rule["expr"]) == set(), rule["expr"]


def test_rules_never_mix_two_releases():
    """One Prometheus may watch several releases: a sum over all of them would hide a dead one."""
    others = {"mountpoint", "persistentvolumeclaim", "job_name", "cronjob"}
    for rule in all_rules():
        for labels in aggregations(rule["expr"]):
            # a machine's disk belongs to no release, and the series of Kubernetes do not name theirs
            assert {"namespace", "release"} <= labels or labels & others, rule


def test_every_role_that_the_chart_runs_is_missed_when_it_is_absent():
    (alert,) = [rule for rule in alerts() if rule["alert"] == "ScreenerRoleAbsent"]
    assert set(re.findall(r'"job", "screener-(\w+)"', alert["expr"])) == set(ROLES)


@pytest.mark.parametrize(
    "duration",
    [
        "metrics_calculator_db_insert_duration_seconds",
        "metrics_calculator_calculation_duration_seconds",
        "alert_engine_evaluation_duration_seconds",
        "alert_engine_alert_latency_seconds",
        "api_gateway_http_duration_seconds",
        "screener_stage_latency_seconds",
    ],
)
def test_the_mean_and_three_quantiles_of_every_promised_duration_are_recorded(duration: str):
    assert f"{duration}_avg" in recorded()
    assert {name.rpartition(":")[2] for name in recorded() if f":{duration}:" in name} == {
        "p50",
        "p95",
        "p99",
    }


def test_alertmanager_takes_its_configuration_and_templates():
    assert "SUCCESS" in run("amtool", "check-config", ALERTMANAGER)
    templates = ALERTMANAGER.parent / "templates" / "screener.tmpl"
    said = run(
        "amtool", "template", "render", f"--template.glob={templates}",
        '--template.text={{ template "screener.title" . }}|{{ template "screener.text" . }}',
    )  # fmt: skip
    assert "Runbook:" in said


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ("alertname=ScreenerServiceDown severity=critical", "pagerduty-critical,slack-critical"),
        ("alertname=ScreenerHighErrorRate severity=warning", "slack-warning"),
        (
            "alertname=ScreenerApiBudgetBurn severity=critical long_window=1h",
            "pagerduty-critical,slack-critical",
        ),
        ("alertname=ScreenerApiBudgetBurn severity=warning long_window=3d", "slack-warning"),
        ("alertname=ScreenerDeadMan severity=none", "dead-man"),
        ("alertname=SomethingElse", "slack-warning"),
    ],
)
def test_alerts_go_to_the_people_that_their_severity_calls_for(labels: str, receivers: str):
    routes = ["config", "routes", "test", f"--config.file={ALERTMANAGER}"]
    run("amtool", *routes, f"--verify.receivers={receivers}", *labels.split())


def test_no_secret_stands_in_the_configuration_of_alertmanager():
    assert not re.search(r"hooks\.slack\.com|(api_url|routing_key|password):", ALERTMANAGER.read_text())
