"""A signal ends a command's work, wherever it is, and every command waits in the way that a signal ends."""

from __future__ import annotations

import ast
import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
from app.errors import Interrupted
from app.process import tasks
from app.process.interrupts import StopEvent, interruptible, unless_stopped

APP = Path(app.__file__).parent
ELSEWHERE = {"local/servers/embedded.py", "sidecar/trials/process.py"}
"""In a thread that takes no signals; a child of the sidecar, which ignores them."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_work_once_it_has_closed_what_it_holds(number: signal.Signals) -> None:
    closed: list[str] = []

    async def work() -> None:
        try:
            signal.raise_signal(number)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            closed.append("connection")

    async with asyncio.timeout(20):
        with pytest.raises(Interrupted) as ended:
            await interruptible(work())
    assert ended.value.status == 128 + number
    assert closed == ["connection"]
    # further signals end the process at once
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)


async def test_a_stop_that_comes_together_with_an_answer_ends_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "_CANCELLED_AGAIN_S", 0.05)
    stop, waiting = StopEvent(), asyncio.Event()
    answer = asyncio.get_running_loop().create_future()

    async def work() -> None:
        waiting.set()
        await asyncio.wait_for(answer, 60)
        await asyncio.Event().wait()

    async def disturb() -> None:
        await waiting.wait()
        stop.come(signal.SIGINT)
        # the work is cancelled two turns of the loop after the stop
        for _ in range(2):
            await asyncio.sleep(0)
        answer.set_result(None)

    disturbing = asyncio.create_task(disturb())
    async with asyncio.timeout(20):
        with pytest.raises(Interrupted):
            await unless_stopped(stop, work())
    await disturbing


async def test_without_a_signal_the_result_or_the_error_of_the_work_arrives() -> None:
    async def gives() -> int:
        return 7

    async def fails() -> int:
        raise ZeroDivisionError

    assert await interruptible(gives()) == 7
    with pytest.raises(ZeroDivisionError):
        await interruptible(fails())
    # no signal arrives in a thread, and none is missed
    assert await asyncio.to_thread(asyncio.run, interruptible(gives())) == 7


def called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)


def runs(tree: ast.AST) -> Iterator[str]:
    """Yield the name of what each `asyncio.run(name(...))` runs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("asyncio.run", "uvloop.run"):
            yield next(called(node.args[0]), "")


def test_every_command_and_role_runs_what_signals_end() -> None:
    found = {}
    for path in APP.rglob("*.py"):
        tree = ast.parse(path.read_text())
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        minds = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, functions) and "stop_signals" in called(node)
        }
        if run := [*runs(tree)]:
            found[str(path.relative_to(APP))] = {*run} - minds - {"interruptible"}
    assert len(found) > 10
    assert {name for name, others in found.items() if others} == ELSEWHERE
