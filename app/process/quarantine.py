"""Records at which a process ends: noted while their code runs, counted after a restart, set aside at the third end.

A record whose code raises, crashes the interpreter or is killed for its memory would be read again for ever. So a stage
notes which record it works on in a file mapped into memory (`Attempts.watch`, `Attempts.watched`), and clears the note
when that code yields to the event loop. The mapped page outlives the process however it ends, and a note costs a store,
not a system call. The next process to start finds the record whose code was running, and counts it in a second file.

Not counted: an end while a record waits for a server, an orderly stop, an error that `is_outage` (its process
ends with status 75). A finished record is forgotten, so that occasional kills do not add up.
If a process ends at a batch, the culprit is unknown: all its records become suspects, and are processed one at a time.

Files, one set per stage in `data_dir/attempts`: `STAGE.N.note` for each process that runs at once (held by a lock),
and `STAGE.ends.json` with the counts, shared by them.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from traceback import format_exception
from typing import Any, Final, Generic, TypeVar

import structlog

from app.errors import BadInput, ScreenerError
from app.process.attempt_records import (
    LENGTH_BYTES,
    NOTE_BYTES,
    KnownEnds,
    Record,
    Span,
    packed_note,
    read_known,
    read_note,
    spans_of,
)
from app.settings.access import Namespace
from app.telemetry import PipelineMetrics
from app.wire.faults import SERVER_ERRORS, is_of_the_data

ENDS: Final = 3
"""A record is set aside after this many ends at it."""
QUARANTINED: Final = "quarantined"
"""The reason of its dead letter."""

_SAID_CHARACTERS: Final = 8_000
_UNORDERED_SUSPECTS_S: Final = 600.0
"""How long messages that may come again in any order stay suspect: many times the ack wait of NATS."""
_KILLED: Final = (
    "the process ended while it worked on it, with no exception: the interpreter crashed or called exit, or it was "
    "killed (for its memory, or because its event loop stood still)"
)

T = TypeVar("T")

log = structlog.get_logger("quarantine")


def is_outage(error: BaseException) -> bool:
    """Return whether an error comes from a server or the machine, and not from the record worked on."""
    if isinstance(error, ScreenerError):
        return error.retryable
    return isinstance(error, SERVER_ERRORS) and not is_of_the_data(error)


@dataclass(frozen=True, slots=True)
class PastEnds:
    """ends: how often a process ended at the record. said: the last error, as far as known."""

    ends: int
    said: str

    def bad_input(self) -> BadInput:
        """Return the error with which to reject the record."""
        return BadInput(
            QUARANTINED, f"quarantined after {self.ends} ends of the process at it; the last: {self.said}"
        )


class Attempts:
    """The records that one stage of one process works on, and earlier ends at them. Opened at its first use."""

    def __init__(
        self, data_dir: Path, stage: str, metrics: PipelineMetrics, *, in_order: bool = True
    ) -> None:
        """in_order: records come in the order of their offsets, as from Kafka."""
        self._directory = data_dir / "attempts"
        self._stage = stage
        self._metrics = metrics
        self._in_order = in_order
        self._known = KnownEnds()
        self._map: mmap.mmap | None = None
        self._lock: int | None = None
        self._opened_s: float | None = None

    def open(self) -> None:
        """Count the ends of earlier processes. Idempotent. Without a writable directory, log that no attempts are
        noted; the stage works all the same."""
        if self._opened_s is not None:
            return
        self._opened_s = time.monotonic()
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            left = self._take_slot()
            self._known = read_known(self._ends_file)
            for spans in left:
                self._change(partial(KnownEnds.count, spans=spans, said=_KILLED))
        except OSError as error:
            log.error("attempts_not_noted", directory=str(self._directory), error=str(error))
            return
        for spans in left:
            log.error("ended_at_record", stage=self._stage, records=spans, error=_KILLED)

    @property
    def _ends_file(self) -> Path:
        return self._directory / f"{self._stage}.ends.json"

    def verdict(self, record: Record) -> PastEnds | None:
        """Return None if the record may be processed; else it must be quarantined."""
        stamp, ends, said = self._known.ends.get((record.source, record.offset), (0, 0, ""))
        return PastEnds(ends, said) if ends >= ENDS and stamp == record.stamp else None

    def set_aside(self, record: Record, verdict: PastEnds) -> None:
        """Count and log a quarantined record; call it once the dead letter of the record is sent."""
        self._metrics.quarantined.labels(stage=self._stage).inc()
        log.error(
            "record_quarantined", stage=self._stage, source=record.source, offset=record.offset,
            ends=verdict.ends, last=verdict.said,
        )  # fmt: skip

    @property
    def knows_any(self) -> bool:
        """Whether `is_known` is true of any record."""
        return bool(self._known.ends or self._known.suspects)

    def is_suspect(self, record: Record) -> bool:
        """Return whether it was in a batch at which a process ended: process it alone."""
        return bool(self._known.suspects) and self._known.is_suspect(record.source, record.offset)

    def is_known(self, record: Record) -> bool:
        """Return whether a process has ended at it, or may have: process it alone, or quarantine it."""
        known = self._known
        return (record.source, record.offset) in known.ends or self.is_suspect(record)

    def done(self, record: Record) -> None:
        """Forget earlier ends at a finished record, unless it was set aside, since it may be read again."""
        known = self._known
        if not known.ends and not known.suspects:
            return
        place = (record.source, record.offset)
        ended = known.ends.get(place)
        drop = ended is not None and (ended[1] < ENDS or ended[0] != record.stamp)
        passed = self._has_passed(record)
        if drop or passed:
            self._change(
                lambda stored: _forget(stored, place if drop else None, record.source if passed else None)
            )

    def _has_passed(self, record: Record) -> bool:
        last = self._known.suspects.get(record.source, (0, None))[1]
        if last is None:
            return False
        if self._in_order:
            return record.offset >= last
        return self._opened_s is not None and time.monotonic() - self._opened_s > _UNORDERED_SUSPECTS_S

    @contextmanager
    def watch(self, *records: Record) -> Iterator[None]:
        """Note the records while the block runs. It must not await: see `watched`."""
        self._note(packed_note(records))
        try:
            yield
        finally:
            self.withdraw()

    def watched(self, coroutine: Coroutine[Any, Any, T], *records: Record) -> _Watched[T]:
        """Await a coroutine; note the records while its own code runs, not while it waits."""
        return _Watched(self, coroutine, packed_note(records))

    def failed(self, error: BaseException, *records: Record) -> None:
        """Count an end that is about to come, with its traceback."""
        said = "".join(format_exception(error))[-_SAID_CHARACTERS:]
        try:
            self._change(lambda known: known.count(spans_of(records), said))
        except OSError as fault:
            log.error("attempts_not_noted", directory=str(self._directory), error=str(fault))

    def withdraw(self) -> None:
        """Clear the note: no record is being processed."""
        if self._map is not None:
            self._map[:LENGTH_BYTES] = bytes(LENGTH_BYTES)

    def _note(self, packed: bytes) -> None:
        if self._map is not None:
            end = LENGTH_BYTES + len(packed)
            self._map[LENGTH_BYTES:end] = packed
            self._map[:LENGTH_BYTES] = len(packed).to_bytes(LENGTH_BYTES)

    def close(self) -> None:
        """Release the slot, which another process may then take."""
        self.withdraw()
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self._opened_s = None

    def _take_slot(self) -> list[list[Span]]:
        """Map the first slot that no process holds; return the notes dead processes left in theirs."""
        left: list[list[Span]] = []
        number = 0
        while True:
            path = self._directory / f"{self._stage}.{number}.note"
            fresh = not path.exists()
            if fresh and self._map is not None:
                return left
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
            else:
                os.truncate(handle, NOTE_BYTES)
                mapped = mmap.mmap(handle, NOTE_BYTES)
                left += read_note(mapped)
                mapped[:LENGTH_BYTES] = bytes(LENGTH_BYTES)
                if self._map is None:
                    self._map, self._lock = mapped, handle
                else:
                    mapped.close()
                    os.close(handle)
            number += 1

    def _change(self, change: Callable[[KnownEnds], object]) -> None:
        """Read, change and write the known records, while no other process does."""
        path = self._ends_file
        with (self._directory / f"{self._stage}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = read_known(path)
            change(known)
            self._known = known
            passing = path.with_suffix(".tmp")
            passing.write_bytes(known.pack())
            passing.replace(path)


def attempts_of(data_dir: Path, namespace: Namespace, metrics: PipelineMetrics) -> Callable[[str], Attempts]:
    """Return a function that makes the attempts of a stage, by its name."""
    return lambda stage: Attempts(data_dir, namespace.name(stage), metrics)


class _Watched(Generic[T]):
    """Runs a coroutine step by step, as the event loop would, with the note in place during each step."""

    __slots__ = ("_attempts", "_coroutine", "_packed")

    def __init__(self, attempts: Attempts, coroutine: Coroutine[Any, Any, T], packed: bytes) -> None:
        self._attempts = attempts
        self._coroutine = coroutine
        self._packed = packed

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._coroutine
        attempts, packed = self._attempts, self._packed
        value: Any = None
        thrown: BaseException | None = None
        while True:
            attempts._note(packed)
            try:
                awaited = steps.send(value) if thrown is None else steps.throw(thrown)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                attempts.withdraw()
            value, thrown = None, None
            try:
                value = yield awaited
            except BaseException as error:  # a cancellation is the coroutine's to deal with
                thrown = error


def _forget(known: KnownEnds, place: tuple[str, int] | None, source: str | None) -> None:
    if place is not None:
        known.ends.pop(place, None)
    if source is not None:
        known.suspects.pop(source, None)
