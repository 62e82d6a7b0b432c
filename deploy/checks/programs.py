"""Runs a checker of this virtual environment and shows all that it said when it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "screener"
BIN = Path(sys.executable).parent


def run(program: str, *arguments: str | Path, fails: bool = False) -> str:
    """What `program` wrote, stdout and stderr; fails the test unless it ends as wanted (`fails`: with an error)."""
    command = [str(BIN / program), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if bool(done.returncode) != fails:
        ended = f"{program} ended with {done.returncode}"
        pytest.fail(f"{ended}: {' '.join(command)}\n{done.stdout}", pytrace=False)
    return done.stdout
