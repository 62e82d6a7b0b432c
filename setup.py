"""The wheel carries the built page."""

from __future__ import annotations

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPage(build_py):
    """Collect the packages after the page is built, so that its files are among them."""

    def run(self) -> None:
        page = Path(__file__).resolve().parent / "app" / "sidecar" / "page" / "build.py"
        runpy.run_path(str(page))["build"]()
        super().run()


setup(cmdclass={"build_py": BuildWithPage})
