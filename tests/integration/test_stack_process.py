"""Child processes: stopped without leftovers, gone when we are, and explained when they end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from app.process.children.child import ChildProcess
from tests.support.eventually import eventually

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
WITH_CHILD = dedent(f"""
    import subprocess, sys
    print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
    {SLEEP}
""")


class Python:
    """Starts Python programs as child processes, and kills at the end what a test left running."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[ChildProcess] = []

    def start(self, program: str) -> ChildProcess:
        log_file = self._directory / f"{len(self._started)}.log"
        process = ChildProcess("the program", [sys.executable, "-c", program], log_file)
        process.start()
        self._started.append(process)
        return process

    def kill_all(self) -> None:
        for process in self._started:
            process.kill()


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Python]:
    running = Python(tmp_path)
    yield running
    running.kill_all()


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_running_process_has_no_exit_code(python: Python) -> None:
    process = python.start(SLEEP)
    await eventually(process.log_tail)
    assert process.running
    assert process.poll() is None


async def test_stopping_asks_first(python: Python) -> None:
    process = python.start(SLEEP)
    await eventually(process.log_tail)
    assert process.stop() == -signal.SIGTERM
    assert not process.running


async def test_a_process_that_does_not_listen_is_killed(python: Python) -> None:
    process = python.start(DEAF)
    await eventually(process.log_tail)
    assert process.stop(timeout_s=0.2) == -signal.SIGKILL


@pytest.mark.parametrize("end", ["stop", "kill", "its own end"])
async def test_children_of_the_process_end_with_it(python: Python, end: str) -> None:
    process = python.start(WITH_CHILD)
    await eventually(lambda: "up" in process.log_tail())
    grandchild = int(process.log_tail().split()[0])
    assert _is_running(grandchild)
    if end == "its own end":
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        await eventually(lambda: process.poll() is not None)
    else:
        getattr(process, end)()
    await eventually(lambda: not _is_running(grandchild))


async def test_the_end_of_a_process_is_told_with_its_log(python: Python) -> None:
    process = python.start("print('first'); print('the reason'); raise SystemExit(3)")
    await eventually(lambda: process.poll() is not None)
    assert process.poll() == 3
    told = process.describe_end()
    assert "the program ended with exit code 3" in told
    assert str(process.log_file) in told
    assert told.endswith("the reason")


async def test_the_log_tail_is_the_last_lines(python: Python) -> None:
    process = python.start("for number in range(5000): print('line', number)")
    await eventually(lambda: process.poll() == 0)
    assert process.log_tail(2) == "line 4998\nline 4999"


async def test_a_process_can_be_started_again(python: Python) -> None:
    process = python.start(SLEEP)
    first = process.pid
    with pytest.raises(RuntimeError, match=f"already running as process {first}"):
        process.start()
    process.stop()
    process.start()
    assert process.running
    assert process.pid != first


def test_a_missing_program_raises_and_leaves_nothing_running(tmp_path: Path) -> None:
    process = ChildProcess("nothing", [tmp_path / "no-such-program"], tmp_path / "log")
    with pytest.raises(FileNotFoundError):
        process.start()
    assert not process.running
    assert process.stop() is None


async def test_a_process_outlives_the_thread_that_started_it(python: Python) -> None:
    started: list[ChildProcess] = []
    thread = threading.Thread(target=lambda: started.append(python.start(SLEEP)))
    thread.start()
    thread.join()
    (process,) = started
    await eventually(process.log_tail)
    assert process.running


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
async def test_a_process_dies_with_a_killed_parent(python: Python, tmp_path: Path) -> None:
    log_file = tmp_path / "child.log"
    parent_program = dedent(f"""
        import sys, time
        from pathlib import Path
        from app.process.children.child import ChildProcess
        child = ChildProcess("child", [sys.executable, "-c", {DEAF!r}], Path({str(log_file)!r}))
        child.start()
        print(child.pid, flush=True)
        time.sleep(600)
    """)
    parent = python.start(parent_program)
    await eventually(lambda: log_file.exists() and "up" in log_file.read_text())
    child = int(parent.log_tail())
    assert _is_running(child)
    parent.kill()
    await eventually(lambda: not _is_running(child))
