"""What every test gets: a clean environment and, on request, real servers."""

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
"""Of its files those that wait for minutes of the clock most of the time."""

# In this order: the second imports the first, which pytest must have rewritten by then.
pytest_plugins = ["tests.support.servers", "tests.support.apache_kafka", "tests.support.timescale_server"]


# how long an example may take depends on the machine
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")


class _Schedule(LoadScopeScheduling):
    """A file of tests stays in one process, with what its tests share, and so does what is busy of `tests/pipeline`:
    two of its replays at once would only slow each other down, while most other tests wait for servers."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePosixPath(nodeid.partition("::")[0])
        busy = PIPELINE in path.parents and path.name not in WAITING
        return str(PIPELINE if busy else path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _Schedule(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first, in their random order, so that the processes of a run end at about one time."""
    items.sort(key=lambda item: "pipeline" not in item.path.parts)


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_the_shell() -> None:
    """A developer's SCREENER_* variables must not steer the tests, nor the processes they start."""
    for name in list(os.environ):
        if name.startswith("SCREENER_"):
            del os.environ[name]


@pytest.fixture(autouse=True, scope="session")
def _kernels_are_compiled() -> None:
    """A process that a test starts must not spend the test's time with compiling. Of the processes of a run one
    compiles, and the others wait for it."""
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
    """A logger used once under the set-up of a process would keep that, and capture_logs would miss its events."""
    configure = structlog.configure

    def configure_uncached(**settings: Any) -> None:
        configure(**(settings | {"cache_logger_on_first_use": False}))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(structlog, "configure", configure_uncached)
        yield
