"""How a simulated exchange behaves."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.local.exchange.faults.kinds import ScheduledFault
from app.settings import Settings


@dataclass(frozen=True)
class ExchangeOptions:
    """updates_per_s: of each stream, by the wall clock. speed: simulated time to wall clock.

    start_ms: simulated time at the start, UTC ms; None for the present. history_days: how far back candles
    reach. weight_per_minute: request weight that one address may use over REST (exchangeInfo tells it). ping_s:
    time between pings to a connection. silence_s: time after which a connection that answers no ping is closed.
    lifetime_s: time after which any connection is closed. streams_per_connection: most streams that one
    connection may subscribe to. send_buffer_max_bytes: most bytes that may wait for a slow client before it is
    disconnected. schedule: faults that begin by themselves.
    """

    host: str = "127.0.0.1"
    port: int = 0
    updates_per_s: float = 1.0
    speed: float = 1.0
    start_ms: int | None = None
    history_days: int = 90
    weight_per_minute: int = 2400
    ping_s: float = 180.0
    silence_s: float = 600.0
    lifetime_s: float = 24 * 3600.0
    streams_per_connection: int = 200
    send_buffer_max_bytes: int = 4 * 1024 * 1024
    schedule: tuple[ScheduledFault, ...] = field(default=())

    @classmethod
    def of(cls, settings: Settings) -> ExchangeOptions:
        return cls(
            host=settings.bind_host,
            port=settings.sim_exchange_port,
            updates_per_s=settings.simulated_updates_per_s,
            weight_per_minute=settings.sim_exchange_weight_per_minute,
        )
