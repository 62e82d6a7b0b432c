"""A receiver of webhooks on loopback, and an outbox with a sender whose clock a test moves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web
from psycopg import AsyncConnection

from app.clock import ManualClock
from app.database.connection import Pool, open_pool
from app.database.migrate import migrate
from app.process.quarantine import Attempts
from app.rules.alert import Alert
from app.settings import Settings
from app.telemetry import pipeline_metrics
from app.webhooks.delivery.delivery_log import Delivery, DeliveryLog
from app.webhooks.delivery.outbox import Claimed, Room, Settled, claim, route, settle
from app.webhooks.delivery.post import Answer, WebhookClient, webhook_client
from app.webhooks.delivery.sender import Sender, SenderLimits
from app.webhooks.delivery.verdicts import Past, verdict
from app.webhooks.targets.settings_targets import follow_settings
from app.webhooks.targets.store import NewTarget, Target, TargetStore
from app.webhooks.targets.urls import AllowedHosts
from tests.support.alerts import make_alert
from tests.support.http_server import serving
from tests.support.metric_values import UNREAD

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DOCUMENTED_MS = [
    0, 5_000, 5 * MINUTE_MS, 30 * MINUTE_MS,
    2 * HOUR_MS, 5 * HOUR_MS, 10 * HOUR_MS, 14 * HOUR_MS, 20 * HOUR_MS, 24 * HOUR_MS,
]  # fmt: skip
"""The schedule of retries as WEBHOOKS.md has it, written down again."""

START_MS = 1_709_100_000_000
LOOPBACK: dict[str, Any] = {"webhook_allowed_hosts": ("127.0.0.0/8",), "webhook_timeout_s": 20.0}
ON_LOOPBACK = AllowedHosts.of(LOOPBACK["webhook_allowed_hosts"])
"""The hosts that these settings allow."""
LEASE_MS = 20_000
PLENTY = Room(1_000, 1_000, {})
TAKEN = Answer("delivered", 200, None, 1)


@dataclass(frozen=True, slots=True)
class Received:
    path: str
    """The raw path of the request."""
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


Respond = Callable[[Received], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Receiver:
    """A receiver of webhooks. `answer` gives the response to each request; by default it is 200."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    statuses: dict[str, Iterable[int]] = field(default_factory=dict)
    answer: Respond | None = None
    at_once: int = 0
    most_at_once: int = 0

    def says(self, status: int, headers: dict[str, str] | None = None) -> None:
        """Answer every further request with this status."""

        async def answer(_: Received) -> web.StreamResponse:
            return web.Response(status=status, headers=headers)

        self.answer = answer

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.received]

    @property
    def seqs(self) -> list[int]:
        return [one.json["data"]["seq"] for one in self.received]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(request.raw_path, headers, await request.read())
        self.received.append(received)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.answer(received) if self.answer else web.Response()
        finally:
            self.at_once -= 1


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    async with serving(app, port=port) as url:
        receiver.url = f"{url}/hook"
        yield receiver


def alert(number: int, **fields: Any) -> Alert:
    """Return an alert that was published at START_MS."""
    made = make_alert(number) | fields
    return Alert.from_dict(
        made | {"timings": {"publish_ts_ms": START_MS, **fields.get("timings", {})}}, number
    )


def seqs(claimed: list[Claimed]) -> list[list[int]]:
    """Return the alerts of each message."""
    return [[alert.seq for alert in one.message.alerts] for one in claimed]


NOTED_NOWHERE = Attempts(Path(os.devnull), "webhooks-outbox", pipeline_metrics(UNREAD))


@dataclass(frozen=True, slots=True)
class Outbox:
    """The webhook tables in their own schema, and a sender without jitter."""

    settings: Settings
    clock: ManualClock
    connection: AsyncConnection
    pool: Pool
    client: WebhookClient

    def sender(
        self, target_concurrency: int = 8, concurrency: int = 64, attempts: Attempts = NOTED_NOWHERE
    ) -> Sender:
        limits = SenderLimits(concurrency, target_concurrency, self.settings.webhook_timeout_s)
        return Sender(self.pool, self.client, limits, self.clock, lambda: 0.0, attempts, UNREAD)

    def targets(self, user_id: str | None = None) -> TargetStore:
        return TargetStore(self.connection, self.clock, user_id)

    def log(self, user_id: str | None = None) -> DeliveryLog:
        return DeliveryLog(self.connection, self.clock, user_id)

    async def add(self, url: str, **fields: Any) -> Target:
        return await self.targets().add(NewTarget(url, **fields), ON_LOOPBACK)

    async def put(self, *alerts: Alert) -> int:
        await self.follow()
        return await route(self.connection, alerts, self.clock.now_ms())

    async def claim(self, room: Room = PLENTY) -> list[Claimed]:
        async with self.connection.transaction():
            return await claim(self.connection, self.clock.now_ms(), LEASE_MS, room)

    async def settle(self, claimed: list[Claimed], answer: Answer = TAKEN) -> None:
        """Record the same answer for each message."""
        now_ms = self.clock.now_ms()
        settled = [
            Settled(one, answer, verdict(answer, Past(one.attempts), now_ms, 0.0), now_ms) for one in claimed
        ]
        async with self.connection.transaction():
            await settle(self.connection, settled, now_ms)

    async def follow(self) -> None:
        allowed = AllowedHosts.of(self.settings.webhook_allowed_hosts)
        await follow_settings(self.connection, self.clock.now_ms(), allowed=allowed)

    async def deliveries(self) -> list[Delivery]:
        """Return the deliveries in order of seq."""
        return sorted(await self.log().newest(10_000), key=lambda one: one.seq)

    async def user(self, user_id: str, url: str | None, *selected: str, on: bool = True) -> UUID | None:
        """Store settings as the API does; return the id of the user's target, if any."""
        await self.connection.execute(
            "INSERT INTO user_settings (user_id, webhook_url, notification_enabled, selected_alerts) "
            "VALUES (%s, %s, %s, %s) ON CONFLICT (user_id) DO UPDATE SET (webhook_url, notification_enabled, "
            "selected_alerts) = (excluded.webhook_url, excluded.notification_enabled, excluded.selected_alerts)",
            (user_id, url, on, list(selected)),
        )
        await self.follow()
        found = await self.targets(user_id).all()
        return found[0].id if found else None


@asynccontextmanager
async def outbox(settings: Settings) -> AsyncIterator[Outbox]:
    settings = settings.model_copy(update=LOOPBACK)
    migrate(settings.postgres())
    clock = ManualClock(START_MS)
    allowed = AllowedHosts.of(settings.webhook_allowed_hosts)
    async with (
        await open_pool(settings.postgres(), max_size=3) as pool,
        pool.connection() as connection,
        webhook_client(allowed, settings.webhook_timeout_s, clock, 200, users=allowed) as client,
    ):
        yield Outbox(settings, clock, connection, pool, client)
