"""Channels of latest values (`metrics`, `candles`): changes are collected, and sent at intervals.

A slow client is not sent the changes it missed, only the newest values: values replace one
another by key. So no queue grows, however many updates there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from aiohttp import WSCloseCode

from app.market.metrics import MetricsBatch
from app.sidecar.live.frames import FrameBlock
from app.sidecar.live.receivers import Receiver, end_failed, ending_client
from app.sidecar.live.server_messages import values_frame
from app.sidecar.state.limits import SidecarLimits

_SLICE_S: Final = 0.004
"""Longest time that updates keep the event loop from everything else."""
TOO_FAR_BEHIND: Final = "too slow: subscribe again for a new snapshot"

Key = tuple[str, int]
"""Symbol, and a number that distinguishes values of the symbol that do not replace one another."""
Fields = tuple[frozenset[str], frozenset[str]]
"""Timeframes and fields wanted; empty: all."""


@dataclass(frozen=True, slots=True)
class WantedValues:
    """`symbols`: None for all. `interval_ms`: least time between two updates to the client."""

    symbols: frozenset[str] | None
    fields: Fields
    interval_ms: int


class Values(Protocol):
    """The source of a channel's values."""

    channel: str

    def changed(self, batch: MetricsBatch) -> Iterable[tuple[Key, bytes | None]]:
        """Return the keys that `batch` changes, with their JSON, or None if the JSON is made when it is sent."""
        ...

    def known(self, symbols: frozenset[str] | None) -> list[Key]:
        """Return the keys of a snapshot."""
        ...

    def encode(self, key: Key, fields: Fields) -> bytes | None:
        """Return the current JSON of a known key; None if it is not known any more. Cheap if nothing has changed."""
        ...


@dataclass(slots=True)
class _Behind:
    """Values that a client has not received yet, and the task that sends them."""

    values: dict[Key, bytes | None]
    task: asyncio.Task[None]


@dataclass(slots=True, eq=False)
class _Group:
    """The clients with the same selection."""

    wanted: WantedValues
    receivers: set[Receiver] = field(default_factory=set)
    pending: dict[Key, bytes | None] = field(default_factory=dict)
    behind: dict[Receiver, _Behind] = field(default_factory=dict)
    due_s: float = 0.0

    def merge(self, changed: Mapping[str, Mapping[Key, bytes | None]]) -> None:
        symbols = self.wanted.symbols
        if symbols is None:
            for values in changed.values():
                self.pending.update(values)
            return
        for symbol in symbols & changed.keys():
            self.pending.update(changed[symbol])


class _Slices:
    """Divides long work on the event loop into slices, between which other tasks run."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun_s = self._loop.time()

    def now_s(self) -> float:
        return self._loop.time()

    async def pause(self) -> None:
        """Let other tasks run if the slice is over."""
        if self._loop.time() - self._begun_s > _SLICE_S:
            await asyncio.sleep(0)
            self._begun_s = self._loop.time()


class LatestChannel:
    """The clients of one channel, grouped by their selection."""

    def __init__(self, values: Values, limits: SidecarLimits) -> None:
        self.name = values.channel
        self.seq = 0
        """Grows with every round of updates; orders messages, but clients cannot resume from it."""
        self._values = values
        self._limits = limits
        self._groups: dict[WantedValues, _Group] = {}
        self._of: dict[Receiver, _Group] = {}
        self._changed: dict[str, dict[Key, bytes | None]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def add(self, receiver: Receiver, wanted: WantedValues) -> None:
        """Send the client changes from now on; this replaces its earlier selection."""
        self.discard(receiver)
        group = self._groups.setdefault(wanted, _Group(wanted))
        group.receivers.add(receiver)
        self._of[receiver] = group

    def discard(self, receiver: Receiver) -> None:
        group = self._of.pop(receiver, None)
        if group is None:
            return
        group.receivers.discard(receiver)
        behind = group.behind.pop(receiver, None)
        if behind is not None:
            behind.task.cancel()
        if not group.receivers:
            del self._groups[group.wanted]

    def note(self, batch: MetricsBatch) -> None:
        if not self._groups:
            return
        for key, value in self._values.changed(batch):
            self._changed.setdefault(key[0], {})[key] = value

    async def run(self) -> None:
        """Send changes until cancelled."""
        while True:
            await asyncio.sleep(self._limits.update_interval_ms / 1000)
            await self._send_changes()

    async def _send_changes(self) -> None:
        """Send one round, with pauses: alerts must not wait until thousands of clients have had their values."""
        slices = _Slices()
        changed, self._changed = self._changed, {}
        self.seq += bool(changed)
        for group in tuple(self._groups.values()):
            group.merge(changed)
            now_s = slices.now_s()
            if now_s >= group.due_s and group.pending:
                group.due_s = now_s + group.wanted.interval_ms / 1000
                try:
                    await self._send_group(group, slices)
                except Exception:  # an error of one group: the others must still get theirs
                    for receiver in tuple(group.receivers):
                        end_failed(receiver)
            await slices.pause()

    async def send_snapshot(self, receiver: Receiver, wanted: WantedValues) -> None:
        """Send the snapshot in parts, each with the values as they are when the client takes it. Raises as
        `Receiver.ready` does."""
        keys = self._values.known(wanted.symbols)
        position = 0
        while True:
            await asyncio.sleep(0)
            await receiver.ready()
            part: list[bytes] = []
            size = 0
            while position < len(keys) and size < self._limits.block_bytes:
                value = self._values.encode(keys[position], wanted.fields)
                position += 1
                if value is not None:
                    part.append(value)
                    size += len(value)
            more = position < len(keys)
            receiver.write(FrameBlock(values_frame("snapshot", self.name, self.seq, part, more), 1))
            if not more:
                return

    async def _send_group(self, group: _Group, slices: _Slices) -> None:
        """Send a group its pending values. Each part is encoded and written without a pause between: a snapshot sent
        in that pause would be newer than the part."""
        left, group.pending = group.pending, {}
        for receiver, behind in tuple(group.behind.items()):
            behind.values.update(left)
            self._check_bounds(receiver, behind)
        keeping_up = group.receivers - group.behind.keys()
        while left:
            block, part = next(self._parts(left, group.wanted.fields), (None, dict(left)))
            for receiver in tuple(keeping_up):
                if receiver not in group.receivers:
                    keeping_up.discard(receiver)
                elif not receiver.takes_now:
                    keeping_up.discard(receiver)
                    self._fall_behind(receiver, group, dict(left))
                elif block is not None:
                    receiver.write(block)
            for key in part:
                del left[key]
            await slices.pause()

    def _fall_behind(self, receiver: Receiver, group: _Group, values: dict[Key, bytes | None]) -> None:
        """Leave the rest of an update to a task: for a slow client we hold only the newest values."""
        sending = asyncio.create_task(ending_client(receiver, partial(self._catch_up, receiver, group)))
        group.behind[receiver] = _Behind(values, sending)
        self._check_bounds(receiver, group.behind[receiver])

    def _check_bounds(self, receiver: Receiver, behind: _Behind) -> None:
        if len(behind.values) > self._limits.client_behind_values:
            receiver.close(WSCloseCode.TRY_AGAIN_LATER, TOO_FAR_BEHIND, "slow")

    async def _catch_up(self, receiver: Receiver, group: _Group) -> None:
        """Send the client the values it has not received yet. Raises as `Receiver.ready` does."""
        values = group.behind[receiver].values
        while values:
            await asyncio.sleep(0)
            await receiver.ready()
            block, part = next(self._parts(values, group.wanted.fields), (None, values))
            for key in tuple(part):
                del values[key]
            if block is not None:
                receiver.write(block)
        del group.behind[receiver]

    def _parts(
        self, pending: Mapping[Key, bytes | None], fields: Fields
    ) -> Iterator[tuple[FrameBlock, dict[Key, bytes | None]]]:
        """Yield messages of limited size, each with the newest values: a client may have had a snapshot
        since the change was noted, and must not go back."""
        values: list[bytes] = []
        part: dict[Key, bytes | None] = {}
        size = 0
        for key, noted in pending.items():
            value = self._newest(key, noted, fields)
            part[key] = noted
            if value is not None:
                values.append(value)
                size += len(value)
            if size >= self._limits.block_bytes:
                yield self._update(values), part
                values, part, size = [], {}, 0
        if values:
            yield self._update(values), part

    def _newest(self, key: Key, noted: bytes | None, fields: Fields) -> bytes | None:
        changed = self._changed.get(key[0])
        value = noted if changed is None else changed.get(key, noted)
        return self._values.encode(key, fields) if value is None else value

    def _update(self, values: Sequence[bytes]) -> FrameBlock:
        return FrameBlock(values_frame("update", self.name, self.seq, values), 1)
