"""Bodies of requests, read exactly: JSON objects without unknown or read-only fields."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from typing import Any, Final

import orjson
from aiohttp import hdrs, web

from app.sidecar.problems import RequestError

_READ_TIMEOUT_S: Final = 10.0
_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


async def json_object(
    request: web.Request, known: Collection[str], read_only: Collection[str] = ()
) -> dict[str, Any]:
    """The object in the body. Raises RequestError: 415 for another type, 408 for one that does not come, 400 for what
    is no such object."""
    if request.content_type != "application/json" or hdrs.CONTENT_ENCODING in request.headers:
        raise RequestError(415, "unsupported_media_type", "the body must be plain application/json")
    body = await _read(request)
    if b"\\u0000" in body and _ESCAPED_NUL.search(body):
        raise RequestError(400, "bad_body", "the body holds the character NUL, which cannot be stored")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RequestError(400, "bad_body", "the body is not JSON") from None
    if not isinstance(found, dict):
        raise RequestError(400, "bad_body", "the body must be a JSON object")
    for name in found:
        if name in read_only:
            raise RequestError(400, "read_only_field", f"{name}: cannot be set")
        if name not in known:
            fields = ", ".join(known)
            raise RequestError(400, "unknown_field", f"the body has a field not known here; known: {fields}")
    return found


async def _read(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        raise RequestError(408, "body_too_slow", "the body did not arrive in time") from None
