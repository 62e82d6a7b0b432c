"""Channels of latest values (`metrics`, `candles`): what changed is collected, and sent at intervals.

A client that is slow for a while is not sent what it missed, only the newest of it: values replace one
another by key. So nothing queues up, however many updates there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiohttp import WSCloseCode

from app.market.metrics import MetricsBatch
from app.sidecar.blocks import Block
from app.sidecar.limits import SidecarLimits
from app.sidecar.receivers import Receiver
from app.sidecar.server_messages import values_frame

_SLICE_S: Final = 0.004
"""Longest time that updates keep the event loop from everything else."""
TOO_FAR_BEHIND: Final = "too slow: subscribe again for a new snapshot"

Key = tuple[str, int]
"""Symbol, and what tells values of one symbol apart that do not replace one another."""
Fields = tuple[frozenset[str], frozenset[str]]
"""Timeframes and fields wanted; empty: all."""


@dataclass(frozen=True, slots=True)
class WantedValues:
    """`symbols`: None for all. `interval_ms`: the client is sent what changed at most so often."""

    symbols: frozenset[str] | None
    fields: Fields
    interval_ms: int


class Values(Protocol):
    """Where a channel's values come from."""

    channel: str

    def changed(self, batch: MetricsBatch) -> Iterable[tuple[Key, bytes | None]]:
        """The keys that `batch` changes; with their JSON, or None if that is asked for when it is sent."""
        ...

    def known(self, symbols: frozenset[str] | None) -> list[Key]:
        """The keys of a snapshot."""
        ...

    def encode(self, key: Key, fields: Fields) -> bytes | None:
        """The JSON of a known key as it is now; None if it is not known any more. Cheap while nothing changes."""
        ...


@dataclass(slots=True, eq=False)
class _Group:
    """The clients that want the same."""

    wanted: WantedValues
    receivers: set[Receiver] = field(default_factory=set)
    pending: dict[Key, bytes | None] = field(default_factory=dict)
    behind: dict[Receiver, dict[Key, bytes]] = field(default_factory=dict)
    """What clients have missed that did not take it."""
    due_s: float = 0.0

    def merge(self, changed: Mapping[str, Mapping[Key, bytes | None]]) -> None:
        symbols = self.wanted.symbols
        if symbols is None:
            for values in changed.values():
                self.pending.update(values)
            return
        for symbol in symbols & changed.keys():
            self.pending.update(changed[symbol])


class LatestChannel:
    """The clients of one channel, grouped by what they want."""

    def __init__(self, values: Values, limits: SidecarLimits) -> None:
        self.name = values.channel
        self.seq = 0
        """Grows with every round of updates; orders messages, but is no point to resume from."""
        self._values = values
        self._limits = limits
        self._groups: dict[WantedValues, _Group] = {}
        self._of: dict[Receiver, _Group] = {}
        self._changed: dict[str, dict[Key, bytes | None]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def add(self, receiver: Receiver, wanted: WantedValues) -> None:
        """From now on it is sent what changes; instead of what it wanted before."""
        self.discard(receiver)
        group = self._groups.setdefault(wanted, _Group(wanted))
        group.receivers.add(receiver)
        self._of[receiver] = group

    def discard(self, receiver: Receiver) -> None:
        group = self._of.pop(receiver, None)
        if group is None:
            return
        group.receivers.discard(receiver)
        group.behind.pop(receiver, None)
        if not group.receivers:
            del self._groups[group.wanted]

    def note(self, batch: MetricsBatch) -> None:
        if not self._groups:
            return
        for key, value in self._values.changed(batch):
            self._changed.setdefault(key[0], {})[key] = value

    async def run(self) -> None:
        """Sends what changed, for as long as the process lives."""
        while True:
            await asyncio.sleep(self._limits.update_interval_ms / 1000)
            await self._send_changes()

    async def _send_changes(self) -> None:
        """One round, with pauses: alerts must not wait until thousands of clients have had their values."""
        loop = asyncio.get_running_loop()
        changed, self._changed = self._changed, {}
        self.seq += bool(changed)
        begun_s = loop.time()
        for group in tuple(self._groups.values()):
            group.merge(changed)
            now_s = loop.time()
            if now_s >= group.due_s and (group.pending or group.behind):
                group.due_s = now_s + group.wanted.interval_ms / 1000
                self._send_group(group)
            if now_s - begun_s > _SLICE_S:
                await asyncio.sleep(0)
                begun_s = loop.time()

    async def send_snapshot(self, receiver: Receiver, wanted: WantedValues) -> None:
        """In parts, each as it is when the client takes it. Raises as `Receiver.ready` does."""
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
            receiver.write(Block(values_frame("snapshot", self.name, self.seq, part, more), 1))
            if not more:
                return

    def _send_group(self, group: _Group) -> None:
        pending, group.pending = group.pending, {}
        values = dict(self._encode(pending, group.wanted.fields))
        whole = list(self._blocks(values))
        for receiver in tuple(group.receivers):
            behind = group.behind.get(receiver)
            if not receiver.takes_now:
                self._keep_for(receiver, group, values)
            elif behind is not None:
                del group.behind[receiver]
                self._write(receiver, self._blocks({**behind, **values}))
            else:
                self._write(receiver, whole)

    def _keep_for(self, receiver: Receiver, group: _Group, values: Mapping[Key, bytes]) -> None:
        behind = group.behind.setdefault(receiver, {})
        behind.update(values)
        if len(behind) > self._limits.client_behind_values:
            receiver.close(WSCloseCode.TRY_AGAIN_LATER, TOO_FAR_BEHIND, "slow")

    def _encode(self, pending: Mapping[Key, bytes | None], fields: Fields) -> Iterator[tuple[Key, bytes]]:
        """As they are now: a client may have had a snapshot since they were noted, and goes never back."""
        nothing: dict[Key, bytes | None] = {}
        for key, noted in pending.items():
            value = self._changed.get(key[0], nothing).get(key, noted)
            if value is None:
                value = self._values.encode(key, fields)
            if value is not None:
                yield key, value

    def _blocks(self, values: Mapping[Key, bytes]) -> Iterator[Block]:
        part: list[bytes] = []
        size = 0
        for value in values.values():
            if size >= self._limits.block_bytes:
                yield Block(values_frame("update", self.name, self.seq, part), 1)
                part, size = [], 0
            part.append(value)
            size += len(value)
        if part:
            yield Block(values_frame("update", self.name, self.seq, part), 1)

    @staticmethod
    def _write(receiver: Receiver, blocks: Iterable[Block]) -> None:
        for block in blocks:
            receiver.write(block)
