"""A program we run as a child: started in its own process group, ended with us, stopped without leftovers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil

from app.process.children.identity import Identity, prepare_child
from app.process.private_files import PRIVATE_MODE

_LOG_ROTATE_BYTES = 16 * 1024 * 1024
_POLL_S = 0.05

# Linux sends the death signal when the *thread* that forked ends, so all children are forked by one
# thread that lives as long as this process; callers may be on any thread.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


class ChildProcess:
    """One program, which may be started again after it ended.

    It writes to `log_file` (appended, rotated at start) and leads a process group of its own, so that Ctrl-C in the
    terminal reaches only us and we stop our children in order. If we die without stopping it, Linux sends it
    `death_signal`; on other systems it outlives us.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        log_file: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        identity: Identity | None = None,
        stdin: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        """`env` replaces the environment (default: ours); `identity` is the user to become (default: us); `stdin` is
        a file to read (default: empty)."""
        self.name = name
        self.argv = [str(part) for part in argv]
        self.log_file = log_file
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self._identity = identity
        self._stdin = stdin
        self._stop_signal = stop_signal
        self._death_signal = death_signal
        self._spawned: Future[subprocess.Popen[bytes]] | None = None
        self._exit_code: int | None = None

    def start(self) -> None:
        """Run the program. Raises FileNotFoundError or PermissionError if it cannot be executed."""
        if self.running:
            raise RuntimeError(f"{self.name} is already running as process {self.pid}")
        self._exit_code = None
        # Kept before it is waited for: an interrupt here must not lose a process that was just started.
        self._spawned = _spawner.submit(self._spawn, os.getpid())
        self._spawned.result()

    def _spawn(self, parent_pid: int) -> subprocess.Popen[bytes]:
        self.log_file.parent.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
        if self.log_file.exists() and self.log_file.stat().st_size > _LOG_ROTATE_BYTES:
            self.log_file.replace(self.log_file.with_name(self.log_file.name + ".1"))
        with (
            open(self.log_file, "ab", opener=_private) as log,
            Path(self._stdin or os.devnull).open("rb") as given,
        ):
            return subprocess.Popen(  # noqa: S603  # reason: argv is ours, no shell
                self.argv,
                stdin=given,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                process_group=0,
                umask=0o077,
                preexec_fn=prepare_child(parent_pid, self._death_signal, self._identity),
            )

    @property
    def _popen(self) -> subprocess.Popen[bytes] | None:
        if self._spawned is None or self._spawned.exception() is not None:
            return None
        return self._spawned.result()

    @property
    def pid(self) -> int | None:
        """The process number of the latest start; None before the first."""
        return self._popen.pid if self._popen else None

    @property
    def running(self) -> bool:
        return self._popen is not None and self.poll() is None

    def poll(self) -> int | None:
        """Return the exit code (negative: the signal that ended it), or None while it runs or was never started."""
        if self._popen is None or self._exit_code is not None:
            return self._exit_code
        self._exit_code = self._popen.poll()
        if self._exit_code is not None:
            self._end_group()
        return self._exit_code

    def wait(self, timeout_s: float) -> int | None:
        """Return the exit code, or None if it still runs after `timeout_s`."""
        if self._popen is not None:
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(max(timeout_s, 0.0))
        return self.poll()

    def ask_to_stop(self) -> None:
        """Send the stop signal, and return at once."""
        if self._popen is not None and self.poll() is None:
            self._popen.send_signal(self._stop_signal)

    def kill(self) -> None:
        """End it and its group at once, and wait until it is gone."""
        if self._popen is not None and self.poll() is None:
            self._end_group()
            self._popen.wait()
            self.poll()

    def stop(self, timeout_s: float = 10.0) -> int | None:
        """Stop it, wait, and kill the rest of its group; return the exit code, None if never started."""
        stop_all([self], timeout_s)
        return self.poll()

    def _end_group(self) -> None:
        if self._popen is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def work_done(self) -> tuple[int, float]:
        """Return (bytes in its log, its CPU seconds, to a tenth), which grow while it makes progress."""
        with suppress(psutil.Error, OSError):
            spent = psutil.Process(self.pid).cpu_times()
            return self.log_file.stat().st_size, round(spent.user + spent.system, 1)
        return 0, 0.0

    def log_tail(self, lines: int = 12) -> str:
        """Return the end of its log, for error messages."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(0, self.log_file.stat().st_size - 400 * lines))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def describe_end(self) -> str:
        """Return how it ended, its log file, and the end of the log."""
        code = self.poll()
        if code is None:
            how = "is still running"
        elif code < 0:
            how = f"was ended by signal {_signal_name(-code)}"
        else:
            how = f"ended with exit code {code}"
        return f"{self.name} {how}; end of the log {self.log_file}:\n{self.log_tail()}"


def has_ended(process: psutil.Process) -> bool:
    """Return whether the process has ended. A zombie has: it waits for its parent to read its exit code, which the
    first process of many containers never does."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_ended(processes: Iterable[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait until all have ended, whosever children they are; return the ones that run after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while (
        running := [process for process in processes if not has_ended(process)]
    ) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return running


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def stop_all(processes: Iterable[ChildProcess], timeout_s: float = 10.0) -> None:
    """Stop all at once, wait for them together, kill the rest after `timeout_s`."""
    processes = list(processes)
    for process in processes:
        process.ask_to_stop()
    deadline = time.monotonic() + timeout_s
    for process in processes:
        process.wait(deadline - time.monotonic())
    for process in processes:
        process.kill()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
