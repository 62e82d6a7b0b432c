"""Candles for commands that look back: from a file, or from the minutes that the database keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click
import numpy as np
import psycopg

from app.candles.batch import MINUTE_MS, CandleBatch
from app.database.connection import connection_url, unreachable
from app.database.queries import load_minutes, newest_minute, stored_symbols
from app.replay.file import by_minutes, read_candles
from app.settings import Settings

T = TypeVar("T")

BATCH_ROWS = 20_000
_QUERY_ROWS = 100_000
"""About what one query of the database gives."""

Steps = Iterator[tuple[int, CandleBatch]]
"""Candles in order of time, each batch with how far it brings the whole."""


class Moment(click.ParamType):
    """RFC 3339 text, UTC unless it says otherwise, to UTC ms."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time such as 2024-01-01T00:05:00Z", param, ctx)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Chosen:
    """symbols: None for all. since_ms, until_ms: open times, UTC; until is exclusive; None for no limit."""

    symbols: tuple[str, ...] | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def of(self, batch: CandleBatch) -> CandleBatch:
        keep = np.ones(len(batch), np.bool_)
        if self.since_ms is not None:
            keep &= batch.open_time_ms >= self.since_ms
        if self.until_ms is not None:
            keep &= batch.open_time_ms < self.until_ms
        if self.symbols is not None:
            wanted = np.array([symbol in self.symbols for symbol in batch.symbols], np.bool_)
            keep &= wanted[batch.symbol_index]
        return batch if keep.all() else batch.take(keep)


def from_file(path: Path, chosen: Chosen) -> tuple[int, Steps]:
    """How many candles the file has of those chosen, and the candles. Raises BadInput."""
    candles = chosen.of(read_candles(path))
    return len(candles), ((len(batch), batch) for batch in by_minutes(candles, BATCH_ROWS))


def from_database(
    settings: Settings, since_ms: int, until_ms: int, symbols: Sequence[str] | None
) -> tuple[int, Steps]:
    """How many minutes of time there are, and the stored candles of these symbols (None: all).

    Raises ServerUnreachable.
    """
    return max(0, until_ms - since_ms) // MINUTE_MS, _stored_steps(settings, since_ms, until_ms, symbols)


def _stored_steps(settings: Settings, since_ms: int, until_ms: int, symbols: Sequence[str] | None) -> Steps:
    wanted = list(symbols) if symbols is not None else asyncio.run(_stored(settings))
    step_ms = max(60, _QUERY_ROWS // max(1, len(wanted))) * MINUTE_MS
    for start_ms in range(since_ms, until_ms, step_ms):
        end_ms = min(start_ms + step_ms, until_ms)
        yield (end_ms - start_ms) // MINUTE_MS, asyncio.run(_minutes(settings, wanted, start_ms, end_ms))


def newest_stored(settings: Settings, symbol: str) -> int | None:
    """The open time (UTC ms) of the symbol's newest stored minute; None without one. Raises ServerUnreachable."""
    return asyncio.run(_asked(settings, lambda connection: newest_minute(connection, symbol)))


async def _stored(settings: Settings) -> list[str]:
    return await _asked(settings, stored_symbols)


async def _minutes(settings: Settings, symbols: Sequence[str], since_ms: int, until_ms: int) -> CandleBatch:
    return await _asked(settings, lambda connection: load_minutes(connection, symbols, since_ms, until_ms))


async def _asked(settings: Settings, ask: Callable[[psycopg.AsyncConnection], Awaitable[T]]) -> T:
    try:
        async with await psycopg.AsyncConnection.connect(
            connection_url(settings), autocommit=True
        ) as connection:
            return await ask(connection)
    except psycopg.OperationalError as error:
        raise unreachable(settings, error) from error
