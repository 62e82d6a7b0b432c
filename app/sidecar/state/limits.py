"""The bounds of everything the sidecar holds or waits for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from app.settings import Settings
from app.telemetry.bounded_http import HttpBounds


@dataclass(frozen=True, slots=True)
class SidecarLimits:
    """The defaults suit production; tests and small machines may tighten them."""

    remembered_alerts: int = 10_000
    """Alerts kept in memory, from which clients resume without the database."""
    remembered_bytes: int = 32 * 1024 * 1024
    remembered_ids: int = 20_000
    """Alert ids remembered to drop repeats."""
    repeat_distance: int = 2_000
    """Records read at start only to learn their ids: a repeat further from its original is not recognised."""
    metrics_records_back: int = 64
    """Frames per partition read at start, to know most symbols before their next update."""

    http: HttpBounds = field(
        default_factory=lambda: HttpBounds(connections=6_000, connections_per_address=400)
    )
    """Including WebSockets."""
    max_clients: int = 5_000
    max_clients_per_address: int = 200
    """Many traders may share an address; a program that forgets to close must not take all places."""
    max_clients_per_user: int = 20
    client_queue_messages: int = 2_000
    """Alerts that wait for one client beyond its socket's buffer; one more and it is closed as too slow."""
    client_queue_bytes: int = 2 * 1024 * 1024
    client_socket_bytes: int = 128 * 1024
    """Size of the send buffers for one client, in the operating system and in its transport."""
    block_bytes: int = 64 * 1024
    """Alerts that arrive together are sent together, up to this size."""
    client_message_bytes: int = 64 * 1024
    """Largest message accepted from a client."""
    client_messages_per_minute: int = 300
    """One more closes the client; all of them may come at once."""
    client_behind_values: int = 20_000
    """Latest values waiting for one client that does not take them; one more and it is closed as too slow."""
    field_sets: int = 128
    """Different choices of timeframes and fields that clients may subscribe to: each is encoded separately."""
    field_sets_per_owner: int = 8
    """The same limit for one address, and for one user."""
    update_interval_ms: int = 250
    """Shortest time between two updates of latest values."""
    catch_up_alerts: int = 500
    """Alerts read at a time for a client that resumes."""

    heartbeat_s: float = 20.0
    """A client silent for so long is sent a ping."""
    pong_s: float = 10.0
    """A client silent for so long after a ping is gone."""
    stalled_s: float = 20.0
    """A client that takes none of its queue for so long is closed as too slow."""
    idle_s: float = 60.0
    """A client of /ws without a subscription for so long is closed."""
    expiry_check_s: float = 60.0
    """The longest time between two checks of whether a client's token has expired: clocks are set, and timers sleep."""
    reconnect_every_ms: float = 2.0
    """At shutdown clients are told to come back this far apart: 5,000 of them within 10 s."""
    close_s: float = 15.0
    """A closing client has so long to take its queue and to answer; then its connection is cut."""
    drain_s: float = 3.0
    """At shutdown, how long all clients together have."""
    settle_s: float = 5.0
    """How long a resuming client waits for this sidecar, or the database, to reach the alert it names."""

    database_connections: int = 8
    query_timeout_s: float = 5.0
    """The database gives up a query that takes longer."""
    connection_wait_s: float = 2.0
    """How long a request waits for one of the connections."""

    dependency_check_s: float = 2.0
    dependency_timeout_s: float = 2.0
    stale_after_s: float = 150.0
    """A stage silent for so long is reported as stale, where only closed candles come."""
    stale_ticking_s: float = 15.0
    """The same while candles that are forming come in, or three times their longest pause."""
    backlog_every_s: float = 3.0
    """How often Kafka and NATS are asked how far each role has come."""
    still_after_s: float = 40.0
    """A role with a backlog that handled no record for so long is stuck: a large frame may take a few
    seconds, and messages held by a dead process come again from NATS after 30 s."""
    behind_after_s: float = 60.0
    """A role whose oldest waiting item has waited for so long is behind, though it continues."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the defaults, with the operator's changes."""
        return cls(
            http=HttpBounds(
                connections=settings.websocket_clients + settings.http_connections,
                connections_per_address=(
                    settings.websocket_clients_per_address + settings.http_connections_per_address
                ),
                head_s=settings.http_head_timeout_s,
                idle_s=settings.http_idle_timeout_s,
                stalled_s=settings.http_stalled_timeout_s,
                unread_bytes=settings.http_unread_bytes,
            ),
            max_clients=settings.websocket_clients,
            max_clients_per_address=settings.websocket_clients_per_address,
            max_clients_per_user=settings.websocket_clients_per_user,
        )
