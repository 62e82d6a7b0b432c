"""What a client is told when its request cannot be answered: a status, a code, and a neutral text."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from aiohttp import web

from app.errors import RuleError, ScreenerError


class RequestError(ScreenerError):
    """Raised by handlers; becomes `{"error": code, "message": text}` with its status.

    No field may hold internals: they are written for the client.
    """

    reason = "request"

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        position: int | None = None,
    ) -> None:
        """position: 0-based offset of the fault in an expression; then it is told too."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.position = position

    def response(self) -> web.Response:
        body: dict[str, object] = {"error": self.code, "message": self.message}
        if self.position is not None:
            body["position"] = self.position
        return web.Response(
            body=orjson.dumps(body),
            status=self.status,
            headers=self.headers,
            content_type="application/json",
        )


def bad_parameter(name: str, requirement: str) -> RequestError:
    return RequestError(400, "bad_parameter", f"{name}: {requirement}")


def missing_parameter(name: str) -> RequestError:
    return RequestError(400, "missing_parameter", f"{name}: is needed")


def bad_expression(name: str, error: RuleError) -> RequestError:
    return RequestError(400, "bad_expression", f"{name}: {error}", position=error.position)


def unknown_symbol(message: str = "nothing is known of this symbol") -> RequestError:
    return RequestError(404, "unknown_symbol", message)


def unknown_rule() -> RequestError:
    return RequestError(404, "unknown_rule", "there is no rule of this name")


def unavailable(what: str) -> RequestError:
    return RequestError(
        503, "unavailable", f"{what} cannot be reached at the moment; try again", {"Retry-After": "2"}
    )
