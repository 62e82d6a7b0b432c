"""What every test gets: a clean environment and, on request, real servers."""

from __future__ import annotations

import os

import pytest

# In this order: the second imports the first, which pytest must have rewritten by then.
pytest_plugins = ["tests.support.servers", "tests.support.apache_kafka"]


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_the_shell() -> None:
    """A developer's SCREENER_* variables must not steer the tests, nor the processes they start."""
    for name in list(os.environ):
        if name.startswith("SCREENER_"):
            del os.environ[name]
