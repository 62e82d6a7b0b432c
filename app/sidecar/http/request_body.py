"""Bodies of requests, read strictly: JSON objects without unknown or read-only fields."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from typing import Any, Final

import orjson
from aiohttp import hdrs, web

from app.sidecar.http.problems import RequestError, unknown_names

_READ_TIMEOUT_S: Final = 10.0
_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


async def json_object(
    request: web.Request, known: Collection[str], read_only: Collection[str] = ()
) -> dict[str, Any]:
    """Return the object in the body. Raises RequestError: 415 for another type, 408 for a body that does not arrive in
    time, 400 for anything but an object with only known fields."""
    if request.content_type != "application/json" or hdrs.CONTENT_ENCODING in request.headers:
        raise RequestError(415, "unsupported_media_type", "the body must be plain application/json")
    found = await any_json_object(request)
    fixed = [name for name in found if name in read_only]
    unknown = [name for name in found if name not in known and name not in read_only]
    told = f"{', '.join(fixed)}: cannot be set" if fixed else ""
    if unknown:
        told += ("; " if told else "") + unknown_names("field", unknown, list(known))
    if told:
        raise RequestError(400, "unknown_field" if unknown else "read_only_field", told)
    return found


async def any_json_object(request: web.Request) -> dict[str, Any]:
    """Return the object in the body, with any fields. Raises RequestError: 408 for a body that does not arrive in time,
    400 for anything but an object."""
    body = await _read(request)
    if b"\\u0000" in body and _ESCAPED_NUL.search(body):
        raise RequestError(400, "bad_body", "the body contains the character NUL, which cannot be stored")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RequestError(400, "bad_body", "the body is not JSON") from None
    if not isinstance(found, dict):
        raise RequestError(400, "bad_body", "the body must be a JSON object")
    return found


async def _read(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        raise RequestError(408, "body_too_slow", "the body did not arrive in time") from None
    except (ConnectionError, web.RequestPayloadError):
        # the client went away, or its chunks or encoding are broken: no fault of ours
        raise RequestError(400, "bad_body", "the body did not arrive completely") from None
