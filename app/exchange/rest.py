"""Requests to an exchange: within its limits, with time-outs, repeated where that can help."""

from __future__ import annotations

from typing import Any, Final

import aiohttp
import orjson
import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from app.errors import ExchangeLimited, ExchangeRefused, ExchangeUnreachable
from app.exchange.rate_limit import RateLimit
from app.exchange.venue import Request, Venue
from app.telemetry import feed_metrics

_TIMEOUT: Final = aiohttp.ClientTimeout(total=15.0, sock_connect=5.0)
_ATTEMPTS: Final = 4
_DEFAULT_PAUSE_S: Final = {429: 10.0, 418: 120.0, 403: 300.0}
"""Answers that mean too many requests, with the pause when the answer names none: 418 is Binance's ban after
429s were not heeded, 403 is what Bybit says to an address that asks too much."""
_LONGEST_TEXT: Final = 200
log = structlog.get_logger("exchange")


class RestClient:
    """`get` is a `venue.Get`. Calls may run at the same time; they share the limit."""

    def __init__(self, session: aiohttp.ClientSession, venue: Venue, base_url: str, limit: RateLimit) -> None:
        self._session = session
        self._venue = venue
        self._base_url = base_url.rstrip("/")
        self.limit = limit

    async def get(self, request: Request) -> Any:
        """The decoded answer. Raises ExchangeRefused at once, ExchangeUnreachable and ExchangeLimited after
        some attempts; a pause that the exchange asks for is waited out between them."""
        async for attempt in AsyncRetrying(
            wait=wait_exponential_jitter(multiplier=0.2, max=5.0, jitter=0.2),
            stop=stop_after_attempt(_ATTEMPTS),
            retry=retry_if_exception_type((ExchangeUnreachable, ExchangeLimited)),
            before_sleep=_log_retry,
            reraise=True,
        ):
            with attempt:
                return await self.get_once(request)
        raise AssertionError("unreachable")

    async def get_once(self, request: Request) -> Any:
        """As `get`, with a single attempt."""
        await self.limit.acquire(request.weight)
        outcome = "failed"
        try:
            async with self._session.get(
                self._base_url + request.path, params=request.parameters, timeout=_TIMEOUT
            ) as answer:
                self.limit.note_used(self._venue.used_weight(answer.headers))
                body = await answer.read()
                if answer.status in _DEFAULT_PAUSE_S:
                    outcome = "limited"
                    raise self._limited(answer)
                if 400 <= answer.status < 500:
                    outcome = "refused"
                    raise ExchangeRefused(f"{self._where(request)} answers {answer.status}: {_text(body)}")
                if answer.status != 200:
                    raise ExchangeUnreachable(
                        f"{self._where(request)} answers {answer.status}: {_text(body)}"
                    )
                document = orjson.loads(body)
                outcome = "ok"
                return document
        except orjson.JSONDecodeError as error:
            raise ExchangeUnreachable(
                f"{self._where(request)} answers with what is not JSON: {error}"
            ) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ExchangeUnreachable(
                f"{self._where(request)} does not answer: {str(error) or repr(error)}"
            ) from error
        finally:
            feed_metrics().rest_requests.labels(outcome=outcome).inc()

    def _where(self, request: Request) -> str:
        return f"the exchange {self._venue.name} at {self._base_url}{request.path}"

    def _limited(self, answer: aiohttp.ClientResponse) -> ExchangeLimited:
        text = answer.headers.get("Retry-After", "")
        pause_s = float(text) if text.isdigit() else _DEFAULT_PAUSE_S[answer.status]
        self.limit.pause(pause_s)
        log.warning("exchange_limits_us", status=answer.status, pause_s=pause_s)
        return ExchangeLimited(
            f"the exchange {self._venue.name} asks for a pause of {pause_s:.0f} s (status {answer.status})"
        )


def _text(body: bytes) -> str:
    return body[:_LONGEST_TEXT].decode(errors="replace")


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("exchange_request_repeated", attempt=state.attempt_number, error=str(error))
