"""The sidecar's side of the process that tries rules: started when needed, one trial at a time, ended when idle."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from typing import Final

import orjson
import structlog

from app.errors import ScreenerError
from app.settings.access import PostgresAccess
from app.sidecar.state.database import HistoryUnavailable
from app.sidecar.trials.request import READY, TrialAnswer, TrialRequest, Tried

_MOST_WAITING: Final = 4
_TRIAL_LIMIT_S: Final = 30.0
"""A process that takes longer over a trial is killed."""
_START_WAIT_S: Final = 20.0
"""How long a trial waits for the process, which then continues to start: it may have to compile first."""
_IDLE_S: Final = 600.0
"""A process that tried nothing for so long is ended: it holds some hundred megabytes."""
_LINE_BYTES: Final = 4 * 1024 * 1024
_MODULE: Final = "app.sidecar.trials.process"

log = structlog.get_logger("sidecar.trials")


class TrialsBusy(ScreenerError):
    """This trial would wait too long: others are before it, or the process is still starting."""

    retryable = True


class TrialFailed(ScreenerError):
    """The process ended, or took too long; the next trial gets a new one."""


class TrialRunner:
    """Runs at most one process, which tries one rule at a time while a few others wait."""

    def __init__(self, postgres: PostgresAccess) -> None:
        self._postgres = postgres
        self._process: asyncio.Task[Process] | None = None
        """The task that starts the process; its result is the process."""
        self._turn = asyncio.Lock()
        self.waiting = 0
        """Trials that run or wait to."""
        self._used_at_s = 0.0

    @property
    def process_id(self) -> int | None:
        """The id of the process; None while there is no process."""
        started = self._process
        return started.result().pid if started is not None and started.done() and _lives(started) else None

    async def run(self) -> None:
        """End the process when it is idle, and when cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await asyncio.sleep(_IDLE_S)
                if not self.waiting and loop.time() - self._used_at_s >= _IDLE_S:
                    await self._end()
        finally:
            await self._end()

    async def try_rule(self, request: TrialRequest) -> Tried:
        """Return the trial. Raises TrialsBusy, TrialFailed, HistoryUnavailable."""
        if self.waiting >= _MOST_WAITING:
            raise TrialsBusy("too many rules are being tried; retry")
        self.waiting += 1
        try:
            async with self._turn:
                found = await self._ask(request)
        finally:
            self.waiting -= 1
            self._used_at_s = asyncio.get_running_loop().time()
        if "unavailable" in found:
            raise HistoryUnavailable(f"stored minutes: {found['unavailable']}")
        return found

    async def _ask(self, request: TrialRequest) -> TrialAnswer:
        process = await self._running()
        answered = False
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            async with asyncio.timeout(_TRIAL_LIMIT_S):
                process.stdin.write(request.encode() + b"\n")
                await process.stdin.drain()
                line = await process.stdout.readuntil()
            answered = True
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.warning("rule_trial_failed", error=repr(error))
            raise TrialFailed("the rule could not be tried on history") from error
        finally:
            if not answered:
                # its answer may still come: the next trial must not read it
                await self._end()
        found: TrialAnswer = orjson.loads(line)
        return found

    async def _running(self) -> Process:
        """Return the process, started if there is none. Raises TrialFailed, TrialsBusy."""
        if self._process is not None and self._process.done() and not _lives(self._process):
            self._process = None
        if self._process is None:
            self._process = asyncio.create_task(self._start(), name="start of rule trials")
        done, _ = await asyncio.wait([self._process], timeout=_START_WAIT_S)
        if not done:
            raise TrialsBusy("the computations are being compiled; retry")
        return await self._process

    async def _start(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", _MODULE, stdin=PIPE, stdout=PIPE, limit=_LINE_BYTES
        )
        ready = False
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            access = {"url": self._postgres.url, "schema": self._postgres.schema}
            process.stdin.write(orjson.dumps(access) + b"\n")
            ready = await process.stdout.readline() == READY
        finally:
            if not ready:
                await _kill(process)
        if not ready:
            log.warning("rule_trial_failed", error=f"the process ended with status {process.returncode}")
            raise TrialFailed("the rule could not be tried on history")
        return process

    async def _end(self) -> None:
        starting, self._process = self._process, None
        if starting is not None:
            starting.cancel()
            await asyncio.wait([starting])
            if _lives(starting):
                await _kill(starting.result())


def _lives(started: asyncio.Task[Process]) -> bool:
    return not started.cancelled() and started.exception() is None and started.result().returncode is None


async def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
