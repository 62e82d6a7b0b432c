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
    """What `program` wrote to stdout; fails the test unless it ends as wanted.

    fails: it should end with an error, and what it wrote to stderr is given too.
    """
    command = [str(BIN / program), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if bool(done.returncode) != fails:
        ended = f"{program} ended with {done.returncode}"
        pytest.fail(f"{ended}: {' '.join(command)}\n{done.stdout}\n{done.stderr}", pytrace=False)
    return done.stdout + done.stderr if fails else done.stdout
