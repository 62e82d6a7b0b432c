"""Only composition takes all the settings; every other function takes what it uses."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPOSITION = {
    # the workers and their options
    "app/pipeline.py",
    "app/process/faust_worker/options.py",
    # what starts each of the other roles
    "app/bridge/run.py",
    "app/feed/run.py",
    "app/local/exchange/options.py",
    "app/local/exchange/server.py",
    "app/sidecar/run.py",
    "app/sidecar/state/limits.py",
    "app/sidecar/state/parts.py",
    "app/market_wide/run.py",
    "app/sinks/run.py",
    "app/webhooks/run.py",
    # what starts several roles, or the servers
    "app/local/run_servers.py",
    "app/process/children/supervisor.py",
    "app/replay/replay.py",
    # commands
    "app/cli/candles/record.py",
    "app/cli/candles/replay.py",
    "app/cli/roles.py",
    "app/cli/servers.py",
    "app/cli/up.py",
}


def modules_with_settings() -> set[str]:
    """Modules of which an argument or a field is the whole Settings."""
    files = (file for folder in ("app", "agents", "tables") for file in (ROOT / folder).rglob("*.py"))
    return {str(file.relative_to(ROOT)) for file in files if takes_settings(ast.parse(file.read_text()))}


def takes_settings(module: ast.Module) -> bool:
    annotations = (node.annotation for node in ast.walk(module) if isinstance(node, (ast.arg, ast.AnnAssign)))
    return any(
        isinstance(part, ast.Name) and part.id == "Settings"
        for annotation in annotations
        if annotation is not None
        for part in ast.walk(annotation)
    )


@pytest.mark.parametrize(
    ("source", "takes"),
    [
        ("def f(settings: Settings): ...", True),
        ("def f(work: Callable[[Settings], int]): ...", True),
        ("class C:\n    settings: Settings", True),
        ("settings = Settings.load()", False),
        ("def f(access: RedisAccess) -> Settings: ...", False),
    ],
)
def test_arguments_and_fields_are_found(source: str, takes: bool):
    assert takes_settings(ast.parse(source)) is takes


def test_only_composition_takes_all_settings():
    assert modules_with_settings() <= COMPOSITION


def test_no_module_is_listed_without_need():
    assert modules_with_settings() >= COMPOSITION
