"""The Kafka topics, by name and shape, and the stable hash that gives each symbol its shard."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Topics:
    """Names in the settings' namespace. Frames travel on all but `alerts` (one JSON record per alert), `gaps` (one
    JSON record per frame in which the collector found some) and `dead_letters` (one JSON record per unusable
    message); those three have one partition."""

    ingress: str
    candles: str
    metrics: str
    alerts: str
    gaps: str
    dead_letters: str

    @classmethod
    def of(cls, settings: Settings) -> Topics:
        return cls(
            ingress=settings.name("ingress"),
            candles=settings.name("candles"),
            metrics=settings.name("metrics"),
            alerts=settings.name("alerts"),
            gaps=settings.name("gaps"),
            dead_letters=settings.name("dead-letters"),
        )


def shard_of(symbol: str, partitions: int) -> int:
    """The partition of a symbol's frames: the same in every process, version and language."""
    return crc32(symbol.encode()) % partitions
