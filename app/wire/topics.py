"""The Kafka topics, by name and shape, and the stable hash that gives each symbol its shard."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from zlib import crc32

from app.settings.access import Namespace


@dataclass(frozen=True, slots=True)
class Topics:
    """Names in the namespace. Frames travel on all but `alerts` (one JSON record per alert), `gaps` (one
    JSON record per frame in which the collector found a gap) and `dead_letters` (one JSON record per unusable
    message); these three have one partition, and so has `market` (`market_minutes.py`)."""

    ingress: str
    candles: str
    metrics: str
    market: str
    alerts: str
    gaps: str
    dead_letters: str

    @classmethod
    def of(cls, namespace: Namespace) -> Topics:
        return cls(
            ingress=namespace.name("ingress"),
            candles=namespace.name("candles"),
            metrics=namespace.name("metrics"),
            market=namespace.name("market"),
            alerts=namespace.name("alerts"),
            gaps=namespace.name("gaps"),
            dead_letters=namespace.name("dead-letters"),
        )


def shard_of(symbol: str, partitions: int) -> int:
    """Return the partition of a symbol's frames: the same in every process, version and language."""
    return crc32(symbol.encode()) % partitions


def symbols_of_a_shard(symbols_max: int, partitions: int) -> int:
    """Return how many symbols one shard may have if all shards together may have `symbols_max`: four deviations above
    its share, so that no shard is full while the others have room, and never more than `symbols_max`."""
    share = symbols_max / partitions
    return min(symbols_max, ceil(share + 4 * sqrt(share)))
