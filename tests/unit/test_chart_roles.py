"""What the chart says of each role is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from app.cli.roles import SERVICE_ROLES
from app.pipeline import WORKER_ROLES
from app.role_health import NEEDS
from app.settings import Settings

TEMPLATE = Path(__file__).parents[2] / "deploy" / "helm" / "screener" / "templates" / "_roles.tpl"
_DEFINED = re.compile(r'define "screener\.roles" -}}\n(.*?)\n{{- end }}', re.DOTALL)


@pytest.fixture
def roles() -> dict[str, dict[str, object]]:
    match = _DEFINED.search(TEMPLATE.read_text())
    assert match
    return dict(yaml.safe_load(match[1]))


def test_the_chart_runs_every_role_but_those_for_a_single_machine(roles):
    assert set(roles) == {*SERVICE_ROLES, *WORKER_ROLES} - {"all", "exchange"}


def test_a_role_may_reach_every_server_that_it_asks_for_its_health(roles):
    for role, needs in NEEDS.items():
        assert set(needs) <= set(roles[role]["needs"]), role


def test_ports_of_roles_are_the_defaults_of_their_settings(roles):
    for role, facts in roles.items():
        setting = "sidecar_metrics_port" if role == "sidecar" else f"{role}_port"
        assert facts["port"] == Settings.model_fields[setting].default, role
    assert roles["sidecar"]["http"] == Settings.model_fields["sidecar_port"].default


def test_stages_in_workers_are_the_stateful_ones(roles):
    stateful = {role for role, facts in roles.items() if facts["kind"] == "StatefulSet"}
    assert stateful == set(WORKER_ROLES) - {"all"}
