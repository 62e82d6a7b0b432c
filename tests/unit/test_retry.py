"""Trying again: which faults, how long between attempts, and how few lines tell of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
import pytest
import structlog
from aiokafka.errors import (
    CommitFailedError,
    KafkaConnectionError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import MaxPayloadError, NoRespondersError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from app.errors import ExchangeRefused, ExchangeUnreachable, ServerUnreachable
from app.wire.faults import is_of_the_data, time_heals
from app.wire.retry import Backoff, OutageLog, retried

SHORT = Backoff(0.001, 0.002)
PG = psycopg.errors


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("the connection was lost"),
        psycopg.InterfaceError("the connection is closed"),
        PG.AdminShutdown(),
        PG.CannotConnectNow(),
        PG.QueryCanceled(),
        PG.DiskFull(),
        PG.TooManyConnections(),
        PG.OutOfMemory(),
        PG.DeadlockDetected(),
        PG.LockNotAvailable(),
        PG.ReadOnlySqlTransaction(),
        PG.InvalidPassword(),
        KafkaConnectionError(),
        KafkaTimeoutError(),
        CommitFailedError("a rebalance"),
        NoRespondersError(),
        RedisConnectionError(),
        ConnectionRefusedError(),
        TimeoutError(),
        ServerUnreachable("x"),
        ExchangeUnreachable("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_time_heals(error: Exception):
    assert time_heals(error)
    assert not is_of_the_data(error)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.DataError("NUL"),
        PG.ConfigurationLimitExceeded(),
        PG.FeatureNotSupported(),
        PG.ProgramLimitExceeded(),
        PG.ObjectNotInPrerequisiteState(),
        PG.ExternalRoutineException(),
        PG.RaiseException(),
        PG.CheckViolation(),
        PG.NumericValueOutOfRange(),
        PG.TransactionIntegrityConstraintViolation(),
        MessageSizeTooLargeError(),
        MaxPayloadError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_time_does_not_heal_what_is_wrong_with_the_data(error: Exception):
    assert is_of_the_data(error)
    assert not time_heals(error)


@pytest.mark.parametrize(
    "error",
    [
        PG.UndefinedTable(),
        PG.InsufficientPrivilege(),
        PG.IndexCorrupted(),
        TopicAuthorizationFailedError(),
        ResponseError("WRONGTYPE"),
        ExchangeRefused("x"),
        KeyError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_person_must_mend_is_neither_retried_nor_set_aside(error: Exception):
    assert not time_heals(error)
    assert not is_of_the_data(error)


@given(failures=st.integers(1, 10_000), first_s=st.floats(0.001, 10), factor=st.floats(1, 1_000))
def test_a_wait_is_at_least_half_of_what_doubling_gives_and_never_above_the_longest(
    failures: int, first_s: float, factor: float
):
    longest_s = first_s * factor
    doubled_s = min(longest_s, first_s * 2.0 ** min(failures - 1, 100))
    assert doubled_s / 2 <= Backoff(first_s, longest_s).wait_s(failures) <= doubled_s


def failing(*errors: Exception) -> Callable[[], asyncio.Future[str]]:
    """Raises these one after the other, then returns."""
    left = list(errors)

    async def action() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return action  # type: ignore[return-value]  # reason: a coroutine function


def outage_log(now_s: Callable[[], float] = lambda: 0.0) -> OutageLog:
    return OutageLog(structlog.get_logger("test"), "sink_waits", now_s=now_s, table="t")


async def test_a_fault_that_time_heals_is_tried_again_until_it_works():
    told: list[BaseException] = []
    with capture_logs() as logs:
        action = failing(*[ConnectionRefusedError()] * 3)
        # a lambda gives an awaitable and is no coroutine function
        assert await retried(lambda: action(), outage_log(), backoff=SHORT, on_failure=told.append) == "done"
    assert len(told) == 3
    assert [line["event"] for line in logs] == ["sink_waits", "outage_over"]
    assert (logs[0]["table"], logs[0]["failures"]) == ("t", 1)
    assert (logs[1]["outage"], logs[1]["failures"]) == ("sink_waits", 3)


async def test_any_other_fault_ends_the_attempts_at_once():
    with capture_logs() as logs, pytest.raises(PG.ConfigurationLimitExceeded):
        await retried(
            failing(ConnectionRefusedError(), PG.ConfigurationLimitExceeded()), outage_log(), backoff=SHORT
        )
    assert [line["event"] for line in logs] == ["sink_waits"]


async def test_attempts_end_by_number_by_time_and_by_the_stop_event():
    always = failing(*[TimeoutError()] * 1_000)
    told: list[BaseException] = []
    with pytest.raises(TimeoutError):
        await retried(always, outage_log(), backoff=SHORT, attempts=4, on_failure=told.append)
    assert len(told) == 4
    with pytest.raises(TimeoutError):
        await retried(always, outage_log(), backoff=SHORT, give_up_s=0.05)

    stop = asyncio.Event()
    waiting = asyncio.create_task(retried(always, outage_log(), stop=stop, backoff=Backoff(600.0, 600.0)))
    await asyncio.sleep(0)
    stop.set()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting, 5.0)


def test_an_outage_is_told_when_it_begins_once_a_minute_and_when_it_is_over():
    now_s = 0.0
    outage = outage_log(lambda: now_s)
    with capture_logs() as logs:
        for step in range(1_300):
            now_s = step / 10
            outage.failed(ConnectionRefusedError("gone"))
        outage.over()
        outage.over()
    assert [(line["event"], line["for_s"]) for line in logs] == [
        ("sink_waits", 0.0),
        ("sink_waits", 60.0),
        ("sink_waits", 120.0),
        ("outage_over", 129.9),
    ]
    assert logs[-1]["failures"] == 1_300


def test_what_fails_and_works_in_turns_does_not_fill_the_log():
    now_s = 0.0
    outage = outage_log(lambda: now_s)
    with capture_logs() as logs:
        for step in range(6_000):
            now_s = step / 100
            outage.failed(ConnectionRefusedError())
            outage.over()
    assert len(logs) <= 2 * 7


async def test_an_action_that_works_for_a_while_begins_with_short_waits_again():
    outage = outage_log()
    for _ in range(20):
        outage.failed(TimeoutError())
    runs = 0

    async def reading() -> None:
        nonlocal runs
        runs += 1
        if runs < 30:
            outage.over()
            raise TimeoutError

    # each wait would be ten minutes if failures were counted on
    await asyncio.wait_for(retried(reading, outage, backoff=Backoff(0.001, 600.0)), 10.0)
    assert runs == 30
