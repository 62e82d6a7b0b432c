"""What the documents say of the code is what the code says: links, settings, layers, dependencies, commands, roles."""

from __future__ import annotations

import ast
import configparser
import fnmatch
import json
import re
from pathlib import Path

import pytest

from app.cli.main import screener
from app.cli.roles import SERVICE_ROLES
from app.pipeline import WORKER_ROLES
from app.settings import FILE_SUFFIX, PREFIX, Settings
from app.telemetry.catalogue import ROLE_PORTS
from app.wire.topics import Topics

ROOT = Path(__file__).parents[2]
FOLDERS = ("agents", "app", "benchmarks", "deploy", "tables", "tests")
NOT_IN_THE_REPOSITORY = {"benchmarks/page", "deploy/.env"}
"""Made by a benchmark, and by whoever deploys."""
NOT_SETTINGS = {"SCREENER_X"}
"""An example, and where tests find their data."""


def documents() -> list[Path]:
    within = [file for folder in FOLDERS for file in (ROOT / folder).glob("**/*.md")]
    ours = [file for file in within if "node_modules" not in file.parts]
    return sorted([*ROOT.glob("*.md"), *ours])


def section(document: str, title: str) -> str:
    return (ROOT / document).read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """The first cell of each row of the tables of a text, without their heads."""
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    return [cell for cell, below in zip(rows, [*rows[1:], ""], strict=True) if "---" not in cell + below]


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    return config


@pytest.mark.parametrize("document", documents(), ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path):
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    local = [link.partition("#")[0] for link in links if "://" not in link]
    assert [link for link in local if link and not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_folders_named_in_a_document_exist(document: Path):
    assert missing_paths(document.read_text()) == []


def test_files_and_folders_named_in_the_code_exist():
    modules = [module for folder in ("agents", "app", "tables") for module in (ROOT / folder).rglob("*.py")]
    missing = {str(module.relative_to(ROOT)): missing_paths(module.read_text()) for module in modules}
    assert {module: paths for module, paths in missing.items() if paths} == {}


def test_a_path_that_does_not_exist_is_found():
    assert missing_paths("see `app/pipeline.py`, app/nowhere.py and deploy/nowhere/ (tests/unit)") == [
        "app/nowhere.py",
        "deploy/nowhere",
    ]


def missing_paths(text: str) -> list[str]:
    """The paths in a text that are neither there nor an example."""
    named = set(re.findall(rf"(?<![\w./-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w)(?![*{{<])", text))
    return [
        path
        for path in sorted(named - NOT_IN_THE_REPOSITORY)
        if not (ROOT / path).exists() and "NAME" not in path and "NNNN" not in path
    ]


@pytest.mark.parametrize(
    "package", sorted(ROOT.glob("app/**/__init__.py")), ids=lambda path: str(path.parent.relative_to(ROOT))
)
def test_modules_named_by_their_package_exist(package: Path):
    docstring = ast.get_docstring(ast.parse(package.read_text())) or ""
    named = set(re.findall(r"(?<![\w/])\w+\.py\b", docstring))
    assert [name for name in sorted(named) if not any(package.parent.rglob(name))] == []


@pytest.mark.parametrize("document", documents(), ids=lambda file: str(file.relative_to(ROOT)))
def test_settings_named_in_a_document_exist(document: Path):
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", document.read_text())) - NOT_SETTINGS
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert {name for name in named if name not in known and name.removesuffix(FILE_SUFFIX) not in known} <= {
        f"SCREENER_X{FILE_SUFFIX}"
    }


def test_the_layers_of_the_architecture_are_those_that_are_checked(setup):
    contract = setup["importlinter:contract:layers"]["layers"]
    checked = [sorted(re.findall(r"[\w.]+", line)) for line in contract.strip().splitlines()]
    block = section("ARCHITECTURE.md", "Layers").split("```")[1]
    module = re.compile(r"app\.\w+|agents|tables")
    told = []
    for line in block.strip().splitlines():
        names = []
        for word in line.split():
            if not module.fullmatch(word):
                break
            names.append(word)
        told.append(sorted(names))
    assert told == checked


def test_every_dependency_has_its_row_and_no_other_has(setup):
    wanted = setup["options"]["install_requires"].split("\n")
    for extra in setup["options.extras_require"].values():
        wanted += extra.split("\n")
    names = [re.split(r"[\[<>=]", line)[0] for line in wanted if line]
    told = [
        name
        for cell in first_cells(section("ARCHITECTURE.md", "Dependencies"))
        for name in re.sub(r"\s*\([^)]*\)", "", cell).split(", ")
    ]
    assert sorted(told) == sorted(set(names))


def test_every_dependency_of_the_page_has_its_row_and_no_other_has():
    described = json.loads((ROOT / "app/sidecar/page/package.json").read_text())
    packages = {*described["dependencies"], *described["devDependencies"]}
    told = {
        name
        for cell in first_cells(section("ARCHITECTURE.md", "Dependencies of the page"))
        for name in cell.split(", ")
    }
    assert {name for name in told if not fnmatch.filter(packages, name)} == set()
    assert packages == {package for name in told for package in fnmatch.filter(packages, name)}


def test_every_command_is_in_the_readme_and_no_other():
    block = section("README.md", "Commands").split("```")[1]
    assert set(re.findall(r"screener ([a-z-]+)\b", block)) == set(screener.commands)


def test_the_readme_names_every_subcommand():
    block = section("README.md", "Commands").split("```")[1]
    for group in ("rules", "webhooks"):
        listed = re.search(rf"screener {group} ([a-z|]+)", block)
        assert listed
        assert set(listed[1].split("|")) == set(screener.commands[group].commands)


@pytest.mark.parametrize("role", sorted({*SERVICE_ROLES, *WORKER_ROLES}))
def test_every_role_is_in_the_readme(role: str):
    assert re.search(rf"\b{role}\b", section("README.md", "Commands").split("```")[1])


def test_the_deployment_lists_every_role_with_its_port():
    table = section("deploy/README.md", "On servers of your own")
    ports = dict(re.findall(r"\| (\w+) \| `screener run \1` \|.*?:(\d+) \|", table))
    assert {role: int(port) for role, port in ports.items()} == ROLE_PORTS


@pytest.mark.parametrize("document", ["README.md", "app/pipeline.py"])
def test_the_flow_shows_every_topic(document: str):
    text = (ROOT / document).read_text()
    topics = Topics.of(Settings.load({}).names())
    for topic in (getattr(topics, name) for name in Topics.__slots__):
        assert f"[{topic}]" in text
