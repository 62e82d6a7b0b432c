"""Errors for clients: a status, a code, and a neutral text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import orjson
from aiohttp import web

from app.errors import RuleError, ScreenerError
from app.rules.language.names import nearest
from app.rules.rule import Fault, shown

_NOT_OF_A_NAME: Final = re.compile(r"[^\w. -]")
_MOST_NAMED: Final = 10


class RequestError(ScreenerError):
    """Raised by handlers; becomes `{"error": code, "message": text}` with its status.

    No field may hold internals: the client sees all of them.
    """

    reason = "request"

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        position: int | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        """position: 0-based offset of the first fault in an expression, added to the answer. faults: each fault of a
        rule or an expression, added likewise."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.position = position
        self.faults = tuple(faults)

    def response(self) -> web.Response:
        body: dict[str, object] = {"error": self.code, "message": self.message}
        if self.position is not None:
            body["position"] = self.position
        if self.faults:
            body["faults"] = [
                {"field": fault.field, "message": fault.text, "position": fault.position}
                for fault in self.faults
            ]
        return web.Response(
            body=orjson.dumps(body),
            status=self.status,
            headers=self.headers,
            content_type="application/json",
        )


def bad_parameter(name: str, requirement: str) -> RequestError:
    return RequestError(400, "bad_parameter", f"{name}: {requirement}")


def unknown_names(what: str, names: Sequence[str], known: Sequence[str]) -> str:
    """Return the message about unknown parameters or fields: their names, made harmless, and the likely intended
    ones."""
    quoted = [f"'{shown(_NOT_OF_A_NAME.sub('?', name[:81]))}'" for name in names[:_MOST_NAMED]]
    more = f", ... ({len(names)} in all)" if len(names) > _MOST_NAMED else ""
    near = (nearest(name, tuple(known)) for name in names[:_MOST_NAMED])
    guesses = list(dict.fromkeys(found[0] for found in near if found))
    advice = f"did you mean {', '.join(guesses)}? " if guesses else ""
    return f"unknown {what} {', '.join(quoted)}{more}; {advice}known: {', '.join(known) or 'none'}"


def missing_parameter(name: str) -> RequestError:
    return RequestError(400, "missing_parameter", f"{name}: is required")


def bad_expression(name: str, errors: Sequence[RuleError]) -> RequestError:
    """errors: the faults in the parameter of this name, in order of position."""
    told = "; ".join(map(str, errors))
    faults = [Fault(name, str(error), error.position) for error in errors]
    return RequestError(400, "bad_expression", f"{name}: {told}", position=errors[0].position, faults=faults)


def unknown_symbol(message: str = "unknown symbol") -> RequestError:
    return RequestError(404, "unknown_symbol", message)


def unknown_rule() -> RequestError:
    return RequestError(404, "unknown_rule", "no rule has this name")


def unavailable(what: str) -> RequestError:
    return RequestError(503, "unavailable", f"{what} cannot be reached now; retry", {"Retry-After": "2"})
