"""One attempt at a message: loaded, signed and sent. A message at which the process ends three times is given up."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import psycopg
import structlog

from app.clock import Clock
from app.process.attempt_records import Record
from app.process.quarantine import Attempts, is_outage
from app.telemetry import DatabaseMetrics
from app.webhooks.delivery.outbox import Claimed, load_messages
from app.webhooks.delivery.post import Answer, WebhookClient
from app.webhooks.formats import render
from app.webhooks.targets.signing import signature_headers

log = structlog.get_logger("webhooks")


async def send(client: WebhookClient, claimed: Claimed, now_ms: int) -> Answer:
    """Make one attempt, signed with the time `now_ms`, and return its answer."""
    rendered = render(claimed.format, claimed.url, claimed.message)
    headers: dict[str, str] = {}
    if rendered.signed:
        headers = signature_headers(claimed.message.id, now_ms // 1000, rendered.body, claimed.secrets)
    return await client.post(
        rendered.url, rendered.body, headers, of_user=claimed.of_user, retry_after=rendered.retry_after
    )


class GuardedMessages:
    """Loads and sends messages of the outbox; notes each one while it is in hand."""

    def __init__(
        self, client: WebhookClient, clock: Clock, attempts: Attempts, metrics: DatabaseMetrics
    ) -> None:
        """attempts: at which messages a sender has ended."""
        self._client = client
        self._clock = clock
        self._attempts = attempts
        self._metrics = metrics

    async def load(
        self, connection: psycopg.AsyncConnection, ids: Sequence[UUID], now_ms: int
    ) -> list[Claimed]:
        """Do what `load_messages` does, without messages at which the process ended three times."""
        loaded: list[Claimed] = []
        alone = [one for one in ids if self._attempts.is_known(_record(one))]
        for group in ([one for one in ids if one not in alone], *([one] for one in alone)):
            verdict = self._attempts.verdict(_record(group[0])) if len(group) == 1 else None
            if verdict:
                self._attempts.set_aside(_record(group[0]), verdict)
                self._attempts.done(_record(group[0]))
            elif group:
                loaded += await self._load_group(connection, group, now_ms)
        return loaded

    async def _load_group(
        self, connection: psycopg.AsyncConnection, ids: Sequence[UUID], now_ms: int
    ) -> list[Claimed]:
        records = [_record(one) for one in ids]
        loading = load_messages(connection, ids, now_ms, self._metrics)
        try:
            return await self._attempts.watched(loading, *records)
        except Exception as error:
            if not is_outage(error):
                self._attempts.failed(error, *records)
            raise

    async def attempt(self, claimed: Claimed) -> Answer:
        """Send a message; an error of our own counts as an answer."""
        record = _record(claimed.message.delivery_id)
        try:
            answer = await self._attempts.watched(send(self._client, claimed, self._clock.now_ms()), record)
            self._attempts.done(record)
            return answer
        except Exception:
            # a message that cannot even be made must not keep the others from being sent: it is retried, then dead
            log.exception("webhook_attempt_broke", message=claimed.message.id)
            return Answer("internal", None, None, 0)


def _record(delivery_id: UUID) -> Record:
    return Record(f"webhook_deliveries/{delivery_id}", 0)
