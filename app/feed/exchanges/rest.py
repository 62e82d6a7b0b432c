"""Requests to an exchange: within its limits, with time-outs, retried where that can help."""

from __future__ import annotations

from typing import Any, Final

import aiohttp
import orjson
import structlog

from app.errors import (
    ExchangeBlocked,
    ExchangeError,
    ExchangeLimited,
    ExchangeRefused,
    ExchangeUnreachable,
)
from app.feed.exchanges.answers import BLOCK_PAUSE_S, fault_of, pause_s, shown
from app.feed.exchanges.exchange import Request, Venue
from app.feed.exchanges.rate_limit import RateLimit
from app.feed.feed_health import FEED_HEALTH
from app.telemetry import FeedMetrics
from app.wire.retry import OutageLog, retried

_TIMEOUT: Final = aiohttp.ClientTimeout(total=15.0, sock_connect=5.0)
_ATTEMPTS: Final = 4
_MOST_BYTES: Final = 32 * 1024 * 1024
"""Of an answer: all contracts of a market take about 2 MB."""
_OUTCOMES: Final[dict[type[ExchangeError], str]] = {
    ExchangeLimited: "limited",
    ExchangeBlocked: "blocked",
    ExchangeRefused: "refused",
}
log = structlog.get_logger("exchange")


class RestClient:
    """Sends requests to an exchange; `get` is a `Get`. Calls may run at the same time; they share the limit."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        venue: Venue,
        base_url: str,
        limit: RateLimit,
        metrics: FeedMetrics,
    ) -> None:
        self._metrics = metrics
        self._session = session
        self._venue = venue
        self._base_url = base_url.rstrip("/")
        self.limit = limit
        self._outage = OutageLog(log, "exchange_request_repeated")

    async def get(self, request: Request) -> Any:
        """Return the decoded answer. Raises ExchangeRefused and ExchangeBlocked at once, others after
        some attempts; a pause that the exchange asks for is waited out between them."""
        return await retried(lambda: self.get_once(request), self._outage, attempts=_ATTEMPTS)

    async def get_once(self, request: Request) -> Any:
        """Do `get` with a single attempt."""
        await self.limit.acquire(request.weight)
        outcome = "failed"
        try:
            document = await self._ask(request)
            outcome = "ok"
            FEED_HEALTH.last_fault = ""
            return document
        except ExchangeError as error:
            outcome = _OUTCOMES.get(type(error), "failed")
            FEED_HEALTH.last_fault = str(error)
            raise
        finally:
            self._metrics.rest_requests.labels(outcome=outcome).inc()

    async def _ask(self, request: Request) -> Any:
        where = self._where(request)
        try:
            async with self._session.get(
                self._base_url + request.path, params=request.parameters, timeout=_TIMEOUT
            ) as answer:
                self.limit.note_used(self._venue.used_weight(answer.headers))
                body = await _body(answer)
                if answer.status != 200:
                    raise self._pausing(fault_of(where, answer.status, body), answer)
                try:
                    document = orjson.loads(body)
                except orjson.JSONDecodeError as error:
                    raise ExchangeUnreachable(f"{where} does not answer with JSON: {shown(body)}") from error
                refusal = self._venue.refusal(document)
                if refusal is not None:
                    raise self._pausing(refusal, answer)
                return document
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ExchangeUnreachable(f"{where} does not answer: {str(error) or repr(error)}") from error

    def _where(self, request: Request) -> str:
        return f"the exchange {self._venue.name} at {self._base_url}{request.path}"

    def _pausing(self, fault: ExchangeError, answer: aiohttp.ClientResponse) -> ExchangeError:
        """Return the same fault; if it asks for a pause, begin the pause."""
        if isinstance(fault, ExchangeLimited):
            for_s = pause_s(answer.status, answer.headers.get("Retry-After", ""))
            self.limit.pause(for_s)
            log.warning("exchange_limits_us", status=answer.status, pause_s=for_s, said=str(fault))
        elif isinstance(fault, ExchangeBlocked):
            self.limit.pause(BLOCK_PAUSE_S)
            log.error("exchange_blocks_us", status=answer.status, pause_s=BLOCK_PAUSE_S, said=str(fault))
        return fault


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in answer.content.iter_chunked(65_536):
        parts.append(part)
        size += len(part)
        if size > _MOST_BYTES:
            raise ExchangeUnreachable(f"an answer of more than {_MOST_BYTES} bytes at {answer.url.path}")
    return b"".join(parts)
