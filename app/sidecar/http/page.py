"""The page that `app/sidecar/page/build.py` built: served from memory, compressed, under a policy for its own files.

A file whose name holds its content's hash is cached by browsers for a year; the page itself and the licences are
revalidated each time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from aiohttp import ETag, hdrs, web

from app.sidecar.http.problems import RequestError
from app.sidecar.http.responses import etag_of

BUILT: Final = files("app.sidecar").joinpath("page", "built")
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_INDEX: Final = "index.html"
_TYPES: Final = {"html": "text/html", "js": "text/javascript", "css": "text/css", "txt": "text/plain"}
_NAMED_BY_CONTENT: Final = re.compile(r"-[A-Z0-9]{8}\.\w+")
_FOR_A_YEAR: Final = "public, max-age=31536000, immutable"
_NOT_BUILT: Final = "the page is not built: run `make page` in the source tree, or install the wheel"


@dataclass(frozen=True, slots=True)
class _File:
    content_type: str
    plain: bytes
    gzipped: bytes
    etag: str
    cache: str


def _read(folder: Traversable, name: str) -> _File:
    plain = folder.joinpath(name).read_bytes()
    return _File(
        _TYPES[name.rpartition(".")[2]],
        plain,
        folder.joinpath(f"{name}.gz").read_bytes(),
        etag_of(plain),
        _FOR_A_YEAR if _NAMED_BY_CONTENT.search(name) else "no-cache",
    )


class PageFiles:
    """The built files, read once. Without them every request gets 503 and the API works."""

    def __init__(self, folder: Traversable = BUILT) -> None:
        names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
        served = [name for name in names if name.rpartition(".")[2] in _TYPES]
        self._files = {name: _read(folder, name) for name in served}

    async def index(self, request: web.Request) -> web.Response:
        response = self._answer(request, _INDEX)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    async def part(self, request: web.Request) -> web.Response:
        return self._answer(request, request.match_info["name"])

    def _answer(self, request: web.Request, name: str) -> web.Response:
        if not self._files:
            raise RequestError(503, "page_not_built", _NOT_BUILT)
        file = self._files.get(name)
        if file is None:
            raise web.HTTPNotFound
        if any(tag.value in ("*", file.etag) for tag in request.if_none_match or ()):
            response = web.Response(status=304)
        elif "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            response = web.Response(body=file.gzipped, content_type=file.content_type, charset="utf-8")
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        else:
            response = web.Response(body=file.plain, content_type=file.content_type, charset="utf-8")
        response.headers[hdrs.CACHE_CONTROL] = file.cache
        response.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        response.etag = ETag(file.etag)
        return response
