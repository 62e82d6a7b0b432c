"""Role processes: restarted when they end, stopped without leftovers. The roles are tiny programs."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

import app.process.children.restarts
import app.process.children.supervisor
from app.errors import ServerDied
from app.process.children.restarts import Restarts
from app.process.children.supervisor import RoleProcesses, role_argv, role_environ
from app.process.faust_worker.worker import EXIT_CONFIG
from app.wire.retry import Backoff
from tests.support.eventually import eventually
from tests.support.servers import settings_for

URLS = {"nats": "nats://x:1", "kafka": "x:2", "redis": "redis://x:3", "postgres": "postgresql://x:4/y"}
WAITS = "import signal; print('ready', flush=True); signal.pause()"
"""Runs until it is told to stop."""
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"
ENDS = "print('here we go', flush=True); raise SystemExit(3)"
MISCONFIGURED = f"print('partitions do not fit', flush=True); raise SystemExit({EXIT_CONFIG})"
SHOWS_SETTINGS = f"import os; print(os.environ['SCREENER_PARTITIONS'], flush=True); {WAITS}"


def roles(tmp_path: Path, programs: dict[str, str], **settings: object) -> RoleProcesses:
    def argv(role: str) -> list[str]:
        return [sys.executable, "-S", "-c", programs[role]]

    return RoleProcesses(role_environ(settings_for(URLS, **settings)), tmp_path, list(programs), argv=argv)


@asynccontextmanager
async def running(processes: RoleProcesses) -> AsyncIterator[asyncio.Task[None]]:
    processes.start()
    watching = asyncio.create_task(processes.watch())
    try:
        yield watching
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await watching
        await processes.stop()


def log_of(processes: RoleProcesses, role: str) -> str:
    path = processes.processes[role].log_file
    return path.read_text() if path.exists() else ""


def alive(pid: int | None) -> bool:
    assert pid is not None
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.process.children.restarts, "_BACKOFF", Backoff(0.01, 10.0))
    monkeypatch.setattr(app.process.children.supervisor, "_POLL_S", 0.01)


async def test_every_role_runs_with_the_settings_given(tmp_path: Path):
    processes = roles(tmp_path, {"one": SHOWS_SETTINGS, "two": SHOWS_SETTINGS}, partitions=7)
    async with running(processes):
        for role in ("one", "two"):
            await eventually(lambda role=role: log_of(processes, role).startswith("7\n"))
    assert processes.restarts == 0


async def test_a_killed_role_is_started_again_and_the_others_are_left_alone(tmp_path: Path, quick: None):
    processes = roles(tmp_path, {"one": WAITS, "two": WAITS})
    async with running(processes):
        await eventually(lambda: "ready" in log_of(processes, "one"))
        victim, other = (processes.processes[role] for role in ("one", "two"))
        pid, other_pid = victim.pid, other.pid
        victim.kill()
        await eventually(lambda: victim.running and victim.pid != pid)
        assert processes.restarts == 1
        assert other.pid == other_pid


async def test_the_wait_before_a_restart_doubles_up_to_a_limit(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app.process.children.restarts, "_BACKOFF", Backoff(0.01, 0.04))
    restarts = Restarts(0.0)
    waits_s = [restarts.wait_s(1.0) for _ in range(5)]
    longest_s = [0.01, 0.02, 0.04, 0.04, 0.04]
    assert all(longest / 2 <= wait <= longest for wait, longest in zip(waits_s, longest_s, strict=True))

    processes = roles(tmp_path, {"one": ENDS})
    async with running(processes):
        await eventually(lambda: processes.restarts >= 4)
    assert log_of(processes, "one").count("here we go") >= 4


async def test_after_a_calm_time_the_wait_is_short_again(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app.process.children.restarts, "_CALM_S", 0.0)
    processes = roles(tmp_path, {"one": ENDS})
    async with running(processes):
        await eventually(lambda: processes.restarts >= 4)
    restarts = Restarts(0.0)
    assert all(restarts.wait_s(1.0) <= 0.01 for _ in range(5))


async def test_a_role_that_cannot_run_as_set_up_is_not_started_again_and_its_words_are_shown(
    tmp_path: Path, quick: None
):
    processes = roles(tmp_path, {"one": MISCONFIGURED, "two": WAITS})
    async with running(processes) as watching:
        with pytest.raises(ServerDied, match=r"(?s)one ended with exit code 78.*partitions do not fit"):
            await asyncio.wait_for(watching, 20)
        assert processes.restarts == 0


async def test_a_log_that_cannot_be_written_ends_the_watch(tmp_path: Path, quick: None):
    processes = roles(tmp_path / "logs", {"one": WAITS})
    async with running(processes) as watching:
        victim = processes.processes["one"]
        victim.log_file.unlink()
        victim.log_file.mkdir()
        victim.kill()
        with pytest.raises(IsADirectoryError):
            await asyncio.wait_for(watching, 20)


@pytest.mark.parametrize("program", [WAITS, STUBBORN, ENDS], ids=["willing", "stubborn", "restarting"])
async def test_stopping_leaves_no_process(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch, program: str
):
    monkeypatch.setattr(app.process.children.supervisor, "_STOP_TIMEOUT_S", 0.3)
    processes = roles(tmp_path, {"one": program, "two": program})
    async with running(processes):
        await eventually(lambda: all(log_of(processes, role) for role in ("one", "two")))
    pids = [process.pid for process in processes.processes.values()]
    assert not any(process.running for process in processes.processes.values())
    assert not any(alive(pid) for pid in pids)


async def test_stopping_before_the_start_is_harmless(tmp_path: Path):
    await roles(tmp_path, {"one": WAITS}).stop()


@pytest.mark.parametrize(
    ("role", "has"),
    [("collector", ["-A", "app.main:collector", "worker"]), ("bridge", ["-m", "app", "run", "bridge"])],
)
def test_workers_run_under_faust_and_services_under_the_command(role: str, has: list[str]):
    argv = role_argv(role)
    assert argv[0] == sys.executable
    assert [part for part in argv if part in has] == has
