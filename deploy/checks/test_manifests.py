"""The plain manifests for people without Helm."""

from __future__ import annotations

import subprocess
import sys

from charts import ROLES, component, containers, load, of_kind
from programs import ROOT

MANIFESTS = ROOT / "deploy" / "kubernetes" / "screener.yaml"


def test_the_manifests_are_what_the_script_writes():
    script = ROOT / "deploy" / "generators" / "manifests.py"
    written = subprocess.run(
        [sys.executable, script, "--print"], check=True, capture_output=True, text=True
    ).stdout
    assert MANIFESTS.read_text() == written, f"run python {script.relative_to(ROOT)}"


def test_every_role_is_there_and_the_database_is_migrated_first():
    resources = load(MANIFESTS.read_text())
    workloads = of_kind(resources, "Deployment", "StatefulSet")
    assert {component(one) for one in workloads} == set(ROLES)
    assert [one["args"] for _, one in containers(resources)].count(["migrate"]) == 1


def test_a_second_apply_with_another_image_changes_nothing_immutable():
    """The pod template of a Job may not change; in other workloads only the selector and the claims may not."""
    text = MANIFESTS.read_text()
    resources = load(text)
    assert not of_kind(resources, "Job", "Pod")
    (image,) = {container["image"] for _, container in containers(resources)}
    for before, after in zip(resources, load(text.replace(image, "other:2")), strict=True):
        for field in ("selector", "serviceName", "volumeClaimTemplates", "podManagementPolicy"):
            assert before.get("spec", {}).get(field) == after.get("spec", {}).get(field)
