"""The fixtures of every test: a clean environment and, on request, real servers."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import platformdirs
import pytest
import structlog
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from app.compiled import is_complete
from app.rules.ahead import compile_ahead

PIPELINE = PurePosixPath("tests/pipeline")
WAITING = ("test_chaos.py", "test_outage_logs.py", "test_up_health.py")
"""Files in this folder that mostly wait for minutes of the clock."""

# the order matters: the second one imports the first, which pytest must have rewritten by then
pytest_plugins = ["tests.support.servers", "tests.support.apache_kafka", "tests.support.timescale_server"]


# no deadline, because the time of an example depends on the machine
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")


class _Schedule(LoadScopeScheduling):
    """Keeps each test file in one process, for its shared fixtures, and all busy files of `tests/pipeline` in one: two
    replays at once would only slow each other down, while most other tests wait for servers."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePosixPath(nodeid.partition("::")[0])
        busy = PIPELINE in path.parents and path.name not in WAITING
        return str(PIPELINE if busy else path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _Schedule(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first, in their random order, so that all processes of a run end at about the same time."""
    items.sort(key=lambda item: "pipeline" not in item.path.parts)


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_the_shell() -> None:
    """Remove a developer's SCREENER_* variables, which must not affect the tests nor the processes that they start."""
    for name in list(os.environ):
        if name.startswith("SCREENER_"):
            del os.environ[name]


@pytest.fixture(autouse=True, scope="session")
def _kernels_are_compiled() -> None:
    """Compile the kernels first, so that no process of a test spends the test's time on it. One process of a run
    compiles; the others wait for it."""
    if is_complete():
        return
    with (platformdirs.user_cache_path("screener-tests", ensure_exists=True) / "kernels.lock").open(
        "w"
    ) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_complete():
            compile_ahead()


@pytest.fixture(autouse=True, scope="session")
def _loggers_are_not_cached() -> Iterator[None]:
    """Turn off the cache of loggers: capture_logs misses the events of a logger that keeps an earlier configuration."""
    configure = structlog.configure

    def configure_uncached(**settings: Any) -> None:
        configure(**(settings | {"cache_logger_on_first_use": False}))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(structlog, "configure", configure_uncached)
        yield
