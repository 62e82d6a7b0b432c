"""What a client is told when its request cannot be answered: a status, a code, and a neutral text."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from aiohttp import web

from app.errors import ScreenerError


class RequestError(ScreenerError):
    """Raised by handlers; becomes `{"error": code, "message": text}` with its status.

    Neither field may hold internals: they are written for the client.
    """

    reason = "request"

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        return web.Response(
            body=orjson.dumps({"error": self.code, "message": self.message}),
            status=self.status,
            headers=self.headers,
            content_type="application/json",
        )


def bad_parameter(name: str, requirement: str) -> RequestError:
    return RequestError(400, "bad_parameter", f"{name}: {requirement}")


def unknown_symbol() -> RequestError:
    return RequestError(404, "unknown_symbol", "no metrics are known for this symbol")


def unavailable(what: str) -> RequestError:
    return RequestError(
        503, "unavailable", f"{what} cannot be reached at the moment; try again", {"Retry-After": "2"}
    )
