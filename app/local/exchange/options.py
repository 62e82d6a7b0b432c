"""How a simulated exchange behaves."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.local.exchange.faults.kinds import ScheduledFault
from app.settings import Settings


@dataclass(frozen=True)
class ExchangeOptions:
    """updates_per_s: of each stream, by the wall clock. speed: simulated time to wall clock.

    start_ms: simulated time at the start, UTC ms; None for the present. history_days: how far back candles
    reach. weight_per_minute: what one address may ask over REST (exchangeInfo tells it). ping_s: between pings
    to every connection. silence_s: after which one that answers no ping is closed. lifetime_s: after which the
    exchange closes any. streams_per_connection:
    most that one may subscribe to. send_buffer_max_bytes: what may wait for a slow client before it is cut.
    schedule: faults that come by themselves.
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
