"""Programs of the machine that some tests need."""

from __future__ import annotations

import os
import shutil

import pytest


def need_programs(names: tuple[str, ...], what: str, packages: str) -> None:
    """Skip the test where a program is missing; fail it in CI. what: what needs the programs. packages: Debian's."""
    for program in names:
        if shutil.which(program) is None:
            reason = f"{what} needs {program} (Debian: {packages})"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
