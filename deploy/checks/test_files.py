"""Files that need no rendering: YAML, shell scripts, the image, the workflows."""

from __future__ import annotations

from pathlib import Path

import pytest
import schema
from programs import ROOT, run

YAML_FOLDERS = (
    "deploy/compose.yaml",
    "deploy/compose.backup.yaml",
    "deploy/compose.legacy.yaml",
    "deploy/compose.simulated.yaml",
    "deploy/helm/screener/Chart.yaml",
    "deploy/helm/screener/values.yaml",
    "deploy/helm/screener/ci",
    "deploy/prometheus",
    "deploy/alertmanager",
    "deploy/grafana",
    "deploy/checks/kind.yaml",
    "deploy/checks/substitutes",
    ".github",
)


def test_yaml_is_well_formed_and_in_one_style():
    present = [name for name in YAML_FOLDERS if (ROOT / name).exists()]
    if present:
        run("yamllint", "--strict", "--config-file", ROOT / "deploy/checks/yamllint.yaml", *present)


@pytest.mark.parametrize("dockerfile", sorted(ROOT.glob("deploy/**/Dockerfile*")), ids=lambda path: path.name)
def test_hadolint_finds_nothing_in_the_image(dockerfile: Path):
    run("hadolint", "--failure-threshold", "style", dockerfile)


def test_shellcheck_finds_nothing_in_the_scripts():
    scripts = sorted(ROOT.glob("deploy/**/*.sh"))
    assert scripts
    run("shellcheck", "--severity", "style", *scripts)


def test_zizmor_finds_nothing_in_the_workflows():
    run("zizmor", "--offline", "--pedantic", ROOT / ".github" / "workflows")


def test_the_charts_schema_and_readme_are_up_to_date():
    for file, content in schema.written().items():
        assert file.read_text() == content, f"{file.name} is out of date: run `make chart-schema`"
