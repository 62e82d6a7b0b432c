"""Blocking work on a connection, in a thread, that ends with a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

import psycopg

from app.database.connection import connection_url, unreachable
from app.settings.access import PostgresAccess

_CANCEL_EVERY_S: Final = 0.1

T = TypeVar("T")


async def in_thread(
    postgres: PostgresAccess,
    use: Callable[[psycopg.Connection[Any]], T],
    *,
    autocommit: bool = False,
    statement_timeout_ms: int = 0,
) -> T:
    """Return the result of `use`, which runs in one transaction unless `autocommit`. statement_timeout_ms 0: no limit.

    A cancellation cancels its query, for example one that waits for a lock, and is raised once the thread has ended:
    otherwise the process would wait for the query when it exits. Raises ServerUnreachable.
    """
    opened: list[psycopg.Connection[Any]] = []

    def used() -> T:
        url = connection_url(postgres, statement_timeout_ms)
        with psycopg.connect(url, autocommit=autocommit, prepare_threshold=None) as connection:
            opened.append(connection)
            return use(connection)

    work = asyncio.create_task(asyncio.to_thread(used))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        # repeated, because the thread may be between two queries
        while not work.done():
            for connection in opened:
                connection.cancel()
            await asyncio.wait([work], timeout=_CANCEL_EVERY_S)
        work.exception()
        raise
    except psycopg.OperationalError as error:
        raise unreachable(postgres, error) from error
