"""The process that tries rules: a line of JSON in for each trial, a line of JSON out.

It ends when its input does, so it never outlives the sidecar. The first line names the database, whose password must
not be in an argument. READY answers it once the compiled computations are loaded.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

import orjson
import psycopg

from app.backtest.explain_at import settling_minutes
from app.backtest.trial import Trial
from app.candles.batch import MINUTE_MS, CandleBatch
from app.database.candles.minutes import load_minutes
from app.database.connection import connect
from app.rules.ahead import compile_ahead
from app.rules.rule import Rule
from app.settings.access import PostgresAccess
from app.sidecar.trials.request import READY, TrialAnswer, TrialRequest, Tried

_ROWS_AT_ONCE: Final = 30_000
"""Some hundredths of a second of evaluation: a trial ends that close to its time limit."""
_QUERY_TIMEOUT_MS: Final = 5_000
_COOLDOWN_MAX_S: Final = 3_600
"""A longer cooldown may let one alert of a symbol through at the beginning; loading it would double the rows."""


def main() -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = _own_stdout()
    lines = sys.stdin.buffer
    postgres = PostgresAccess(**orjson.loads(lines.readline()))
    compile_ahead()
    answers.write(READY)
    answers.flush()
    for line in lines:
        answers.write(orjson.dumps(asyncio.run(_answer(postgres, TrialRequest.decode(line)))) + b"\n")
        answers.flush()


def _own_stdout() -> BinaryIO:
    """Return the output of answers; whatever else is printed goes to the log."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


async def _answer(postgres: PostgresAccess, request: TrialRequest) -> TrialAnswer:
    try:
        return await _try(postgres, request)
    except psycopg.Error as error:
        return {"unavailable": str(error)}


async def _try(postgres: PostgresAccess, request: TrialRequest) -> Tried:
    """Load the next symbols while the previous ones are evaluated; stop at the time limit."""
    ends_s = time.monotonic() + request.budget_ms / 1000
    trial = Trial(request.rule, request.since_ms)
    from_ms = max(0, request.since_ms - _minutes_before(request.rule) * MINUTE_MS)
    rows_each = max(1, (request.until_ms - from_ms) // MINUTE_MS)
    tried = 0
    async with await connect(postgres, _QUERY_TIMEOUT_MS) as connection:

        async def load(symbols: Sequence[str]) -> CandleBatch:
            return await load_minutes(connection, symbols, from_ms, request.until_ms)

        loading: asyncio.Task[CandleBatch] | None = None
        groups = _groups(request.symbols, max(1, _ROWS_AT_ONCE // rows_each))
        group = next(groups, None)
        while group is not None and (tried == 0 or time.monotonic() < ends_s):
            candles = await (load(group) if loading is None else loading)
            tried += len(group)
            group = next(groups, None)
            loading = None if group is None else asyncio.create_task(load(group))
            await asyncio.to_thread(trial.add, candles)
        if loading is not None:
            await loading
    return {**trial.as_dict(), "tried": tried}


def _minutes_before(rule: Rule) -> int:
    """Return how many earlier minutes the first one depends on: for windows, for a hold, and for a cooldown."""
    waits_s = rule.hold_s + min(rule.cooldown_s, _COOLDOWN_MAX_S)
    return settling_minutes(rule.condition()) + -(-waits_s // 60)


def _groups(symbols: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for at in range(0, len(symbols), size):
        yield symbols[at : at + size]


if __name__ == "__main__":
    main()
