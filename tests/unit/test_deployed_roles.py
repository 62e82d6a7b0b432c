"""No role is forgotten where the deployment lists them: rules, scrapes, dashboards, Compose, runbooks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli.roles import SERVICE_ROLES
from app.pipeline import WORKER_ROLES
from app.sidecar.state.health import ROLES as REPORTED
from app.telemetry.catalogue import ROLE_PORTS

DEPLOY = Path(__file__).parents[2] / "deploy"
ROLES = sorted({*SERVICE_ROLES, *WORKER_ROLES} - {"all", "exchange"})
"""Of an installation: `all` and the simulated exchange are for a single machine."""
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yaml"))
NAMED_IN = (
    "runbooks/deploy.md",
    "runbooks/rollback.md",
    "runbooks/scale.md",
    "runbooks/upgrade.md",
    "runbooks/ScreenerServiceDown.md",
    "helm/screener/README.md",
)


def loaded(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_text())


def test_every_role_has_a_port_for_prometheus():
    assert sorted(ROLE_PORTS) == ROLES


def test_prometheus_scrapes_every_role():
    jobs = [job["job_name"] for job in loaded("prometheus/prometheus.yml")["scrape_configs"]]
    assert sorted(job.removeprefix("screener-") for job in jobs if job.startswith("screener-")) == ROLES


def test_every_role_is_missed_when_it_is_absent():
    groups = loaded("prometheus/rules/alerts.yaml")["groups"]
    (absent,) = [
        rule for group in groups for rule in group["rules"] if rule.get("alert") == "ScreenerRoleAbsent"
    ]
    assert sorted(re.findall(r'"job", "screener-(\w+)"', absent["expr"])) == ROLES


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_rules_name_no_job_of_a_role_that_does_not_exist(file: Path):
    assert set(re.findall(r"\bscreener-(\w+)\"", file.read_text())) <= set(ROLES)


def test_every_role_has_a_dashboard():
    files = (DEPLOY / "grafana" / "dashboards").glob("screener-*.json")
    assert sorted({file.stem.removeprefix("screener-") for file in files} - {"overview"}) == ROLES


def test_compose_runs_every_role_and_asks_for_its_health():
    services = loaded("compose.yaml")["services"]
    run = {name: service for name, service in services.items() if service.get("command", [])[:1] == ["run"]}
    assert sorted(run) == ROLES
    for role, service in run.items():
        assert service["command"] == ["run", role]
        assert "/health/ready" in service["healthcheck"]["test"][-1]


def test_health_reports_every_role():
    assert sorted({*REPORTED, "sidecar"}) == ROLES


@pytest.mark.parametrize("document", NAMED_IN)
def test_a_document_about_all_roles_names_each(document: str):
    text = (DEPLOY / document).read_text()
    tables_and_steps = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert [role for role in ROLES if not re.search(rf"\b{role}\b", tables_and_steps)] == []


def test_systemd_starts_every_role_with_the_workers_in_one():
    enabled = re.findall(r"\bscreener@(\w+)\b", (DEPLOY / "README.md").read_text())
    assert sorted(set(enabled) - {"service"}) == sorted({*ROLES, "all"} - {*WORKER_ROLES} | {"all"})


def test_the_memory_of_every_role_was_measured():
    rows = re.findall(r"^\| ([a-z]+) \| \d+ \|", (DEPLOY / "RESOURCES.md").read_text(), re.MULTILINE)
    assert sorted(rows) == ROLES
