"""Runs a checker of this virtual environment and shows its whole output when it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "screener"
BIN = Path(sys.executable).parent


def run(program: str, *arguments: str | Path, fails: bool = False) -> str:
    """Run `program` and return its stdout; fail the test unless it ends as expected.

    fails: it should end with an error, and its stderr is returned too.
    """
    command = [str(BIN / program), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if bool(done.returncode) != fails:
        ended = f"{program} ended with {done.returncode}"
        pytest.fail(f"{ended}: {' '.join(command)}\n{done.stdout}\n{done.stderr}", pytrace=False)
    return done.stdout + done.stderr if fails else done.stdout
