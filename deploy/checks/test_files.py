"""Files that need no rendering: YAML, shell scripts, the image, the workflows."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import ROOT, run

YAML_FOLDERS = (
    "deploy/compose.yaml",
    "deploy/prometheus",
    "deploy/alertmanager",
    "deploy/grafana",
    ".github",
)


def test_yaml_is_well_formed_and_in_one_style():
    present = [name for name in YAML_FOLDERS if (ROOT / name).exists()]
    if present:
        run("yamllint", "--strict", "--config-file", ROOT / "deploy/checks/yamllint.yaml", *present)


@pytest.mark.parametrize("dockerfile", sorted(ROOT.glob("deploy/**/Dockerfile*")), ids=lambda path: path.name)
def test_hadolint_finds_nothing_in_the_image(dockerfile: Path):
    run("hadolint", "--failure-threshold", "style", dockerfile)
