"""Background tasks start again after an error; cancelled, they end whole, and none runs on unseen."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from app.process import tasks
from app.process.tasks import ended, kept_running, to_its_end, together
from app.telemetry import runtime_metrics
from tests.support.metric_values import value_of


async def test_a_task_that_raises_is_logged_counted_and_begun_again():
    registry = CollectorRegistry()
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ZeroDivisionError("what it was")

    with capture_logs() as logs:
        await asyncio.wait_for(kept_running("work", work, registry), 20)
    assert runs == 3
    assert [(entry["event"], entry["task"]) for entry in logs] == [("task_failed", "work")] * 2
    assert value_of(runtime_metrics(registry).task_failures.labels(task="work")) == 2


async def test_a_cancelled_task_ends():
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(kept_running("work", work, CollectorRegistry()))
    await begun.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


class Parts:
    """Works that close something in several steps when they are cancelled."""

    def __init__(self) -> None:
        self.begun = 0
        self.closed: list[int] = []

    async def work(self, turns: int) -> None:
        self.begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(turns):
                await asyncio.sleep(0)
            self.closed.append(turns)

    async def fail(self) -> None:
        while self.begun < 2:
            await asyncio.sleep(0)
        raise ZeroDivisionError


async def test_works_side_by_side_give_their_results_in_order():
    async def after(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert await together(after(3), after(0), after(1)) == [3, 0, 1]
    assert await together() == []


async def test_when_works_side_by_side_are_cancelled_all_have_closed_what_they_opened():
    parts = Parts()
    task = asyncio.create_task(together(parts.work(0), parts.work(5), parts.work(1)))
    while parts.begun < 3:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert sorted(parts.closed) == [0, 1, 5]


async def test_an_error_of_one_work_ends_the_works_beside_it_before_it_is_raised():
    parts = Parts()
    with pytest.raises(ZeroDivisionError):
        await together(parts.work(5), parts.fail(), parts.work(1))
    assert sorted(parts.closed) == [1, 5]


async def test_a_cancellation_waits_for_work_that_must_end_and_undoes_its_result():
    begun, go_on = asyncio.Event(), asyncio.Event()
    undone: list[str] = []

    async def open_it() -> str:
        begun.set()
        await go_on.wait()
        return "opened"

    async def undo(result: str) -> None:
        undone.append(result)

    task = asyncio.create_task(to_its_end(open_it(), undo))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    await asyncio.wait([task])
    assert task.cancelled()
    assert undone == ["opened"]


async def test_a_task_that_loses_its_cancellation_to_an_answer_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(tasks, "_CANCELLED_AGAIN_S", 0.05)
    answer = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await asyncio.wait_for(answer, 60)
        await asyncio.Event().wait()

    task = asyncio.create_task(work())
    while task.get_coro().cr_await is None or not answer._callbacks:  # type: ignore[union-attr]
        await asyncio.sleep(0)
    answer.set_result("an answer that comes together with the cancellation")
    async with asyncio.timeout(20):
        await ended(task)
    assert task.cancelled()


async def test_what_a_task_does_at_its_end_is_not_interrupted_and_its_error_raises_nothing():
    parts = Parts()

    async def fails_to_close() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    closing, failing = asyncio.create_task(parts.work(50)), asyncio.create_task(fails_to_close())
    while not parts.begun:
        await asyncio.sleep(0)
    closing.cancel()
    await ended(closing, failing)
    assert parts.closed == [50]
    assert isinstance(failing.exception(), ZeroDivisionError)
    await ended()
