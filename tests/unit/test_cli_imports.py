"""Help, and commands that need no server, import only what they name here; and every command finds its work."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import get_args

import click
import pytest

from app.cli.commands import candles, machine, webhooks
from app.cli.main import screener
from app.cli.roles import SERVICE_ROLES, service_of
from app.pipeline import WORKER_ROLES
from app.recording.file import ROWS_PER_FILE
from app.rules.rule import SEVERITIES
from app.webhooks.delivery.delivery_log import Status
from app.webhooks.formats import FORMATS
from app.webhooks.targets.store import OVERLAP_HOURS

REPOSITORY = Path(__file__).parents[2]
SHIPPED_RULES = str(REPOSITORY / "app" / "rules" / "shipped.yaml")
RUN = "import sys; sys.argv[1:] = {arguments!r}\nfrom app.cli.main import main\n"
HELP_OF_ALL = """
from click.testing import CliRunner
from app.cli.main import screener
def helped(command, path):
    assert CliRunner().invoke(screener, [*path, "--help"]).exit_code == 0, path
    for name, below in getattr(command, "commands", {}).items():
        helped(below, [*path, name])
helped(screener, [])
"""
LISTINGS = ("list", "fields", "screen", "servers", "dead-letters")
TELL = "\nimport sys; print(*sorted(sys.modules), file=sys.stderr)"
OURS_FOR_HELP = {
    "app",
    "app.candles",
    "app.candles.symbols",
    "app.cli",
    "app.cli.commands",
    "app.cli.commands.candles",
    "app.cli.commands.machine",
    "app.cli.commands.rules",
    "app.cli.commands.values",
    "app.cli.commands.webhooks",
    "app.cli.main",
    "app.errors",
    "app.process",
    "app.process.exit_status",
    "app.times",
    "app.webhooks",
    "app.webhooks.short_ids",
}
SETTINGS = {
    "annotated_types",
    "click",
    "pydantic",
    "pydantic_core",
    "typing_extensions",
    "typing_inspection",
}


def imported(code: str, directory: Path) -> set[str]:
    """Return every module that a new process has after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"try:\n    exec({code!r})\nexcept SystemExit: pass{TELL}"],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "SCREENER_JWT_SECRET": "x" * 32,
             "SCREENER_NATS_URL": "nats://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )  # fmt: skip
    return set(done.stderr.split())


def packages(modules: set[str]) -> set[str]:
    """Return the installed packages among them, without ours and without what Python starts with here."""
    at_start = imported("0", REPOSITORY)
    names = {name.partition(".")[0] for name in modules - at_start if not name.startswith("_")}
    return names - sys.stdlib_module_names - {"app", "cython_runtime"}


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], {"click"}),
        (["--version"], {"click"}),
        (["up", "--help"], {"click"}),
        (["rules", "check", SHIPPED_RULES], {"click", "numpy", "yaml"}),
        (["token"], {*SETTINGS, "cryptography", "jwt"}),
        (["servers"], {*SETTINGS, "orjson", "psutil"}),
    ],
    ids=["help", "version", "up-help", "rules-check", "token", "servers"],
)
def test_a_command_without_servers_imports_no_other_package(
    arguments: list[str], allowed: set[str], tmp_path: Path
) -> None:
    code = RUN.format(arguments=arguments) + "main()"
    assert packages(imported(code, tmp_path)) == allowed


def test_help_of_every_command_imports_only_the_command_line(tmp_path: Path) -> None:
    modules = imported(HELP_OF_ALL, tmp_path)
    assert packages(modules) == {"click"}
    assert {name for name in modules if name.partition(".")[0] == "app"} == OURS_FOR_HELP


@pytest.mark.parametrize("role", SERVICE_ROLES)
def test_every_service_is_found_and_takes_what_it_is_run_with(role: str) -> None:
    assert len(inspect.signature(service_of(role)).parameters) == 5


def test_the_process_of_a_service_imports_no_stream_worker_and_no_service_above_it(tmp_path: Path) -> None:
    modules = imported("from app.cli.roles import service_of\nservice_of('webhooks')", tmp_path)
    assert "app.webhooks.run" in modules
    assert not modules & {"app.sidecar.run", "app.feed.run", "faust", "numba", "agents"}


def leaves(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from leaves(below, f"{path} {name}")
    else:
        yield path, command


@pytest.mark.parametrize(("path", "command"), tuple(leaves(screener, "screener")))
def test_the_work_of_a_command_takes_exactly_its_options(path: str, command: click.Command) -> None:
    assert command.callback is not None
    work = inspect.getclosurevars(command.callback).nonlocals
    taken = inspect.signature(getattr(import_module(work["module"]), work["name"])).parameters
    given = {one.name for one in command.params if one.expose_value}
    assert set(taken) == given, path


@pytest.mark.parametrize(
    "path",
    [path for path, _ in leaves(screener, "screener") if path.split()[-1] in LISTINGS],
)
def test_every_listing_has_a_form_for_programs(path: str) -> None:
    command: click.Command = screener
    for name in path.split()[1:]:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    assert "--json" in {option for one in command.params for option in one.opts}


def test_choices_on_the_command_line_are_those_of_the_parts_they_name() -> None:
    assert set(machine.ROLES) == {*SERVICE_ROLES, *WORKER_ROLES}
    assert get_args(Status) == webhooks.STATUSES
    assert FORMATS == webhooks.FORMATS
    assert SEVERITIES == webhooks.SEVERITIES
    assert OVERLAP_HOURS == webhooks.OVERLAP_HOURS
    assert ROWS_PER_FILE == candles.ROWS_PER_FILE
