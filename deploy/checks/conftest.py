"""Renders the chart once with every values file of `ci/`, for all checks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from charts import Resources, load, values_files
from programs import CHART, run


@pytest.fixture(scope="session")
def render_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file per values file, as `helm template` writes it."""
    folder = tmp_path_factory.mktemp("renders")
    for values in values_files():
        rendered = run("helm", "template", "rel", CHART, "--namespace", "screener", "--values", values)
        (folder / f"{values.name.removesuffix('-values.yaml')}.yaml").write_text(rendered)
    return folder


@pytest.fixture(scope="session")
def renders(render_folder: Path) -> dict[str, Resources]:
    """Name of the values file, without `-values.yaml` -> its resources."""
    return {file.stem: load(file.read_text()) for file in sorted(render_folder.iterdir())}


@pytest.fixture
def render() -> Callable[..., Resources]:
    """A function that renders the chart with a file of `ci/` and values that override it."""

    def made(*settings: str, values: str = "default") -> Resources:
        more = [part for setting in settings for part in ("--set", setting)]
        file = CHART / "ci" / f"{values}-values.yaml"
        return load(run("helm", "template", "rel", CHART, "--namespace", "screener", "--values", file, *more))

    return made


@pytest.fixture
def chart_copy(tmp_path: Path) -> Path:
    """A copy of the chart, for tests that put faults into it."""
    return Path(shutil.copytree(CHART, tmp_path / "screener"))
