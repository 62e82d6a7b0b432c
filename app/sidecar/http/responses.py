"""Answers to frequent reads: JSON that is not sent again to a client that already has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import blake2b

from aiohttp import ETag, web

_REVALIDATE = "no-cache"


def etag_of(body: bytes) -> str:
    return blake2b(body, digest_size=12).hexdigest()


def conditional_json(
    request: web.Request, body: bytes | AsyncIterator[bytes], etag: str | None = None
) -> web.Response:
    """Answer 200 with the body, or 304 if If-None-Match names it.

    body: whole, or in pieces that are made as the client reads them. etag: of the body, if it is known; required for
    pieces.
    """
    if etag is None:
        if not isinstance(body, bytes):
            raise TypeError("a body in pieces needs an ETag")
        etag = etag_of(body)
    known = request.if_none_match
    if known is not None and any(tag.value in ("*", etag) for tag in known):
        response = web.Response(status=304)
    else:
        response = web.Response(body=body, content_type="application/json")
    response.headers["Cache-Control"] = _REVALIDATE
    response.etag = ETag(etag)
    return response


def private_json(body: bytes, status: int = 200) -> web.Response:
    """Return an answer that no cache may store: it is only for its caller, or only for this moment."""
    return web.Response(
        body=body,
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
