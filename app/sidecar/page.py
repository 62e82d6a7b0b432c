"""The page at `/`: live alerts and the symbols that move most, in one file without outside parts."""

from __future__ import annotations

import base64
import re
from hashlib import sha256
from importlib.resources import files
from typing import Final

from aiohttp import web

PAGE: Final = files("app.sidecar").joinpath("page.html").read_bytes()


def _digest(tag: bytes) -> str:
    """The content security policy's source for the page's only element of this tag."""
    found = re.search(rb"<" + tag + rb">(.*?)</" + tag + rb">", PAGE, re.DOTALL)
    if found is None:
        raise ValueError(f"page.html has no plain <{tag.decode()}> element")
    return f"'sha256-{base64.b64encode(sha256(found[1]).digest()).decode()}'"


_POLICY: Final = (
    f"default-src 'none'; script-src {_digest(b'script')}; style-src {_digest(b'style')}; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def page_response(_: web.Request) -> web.Response:
    return web.Response(
        body=PAGE,
        content_type="text/html",
        charset="utf-8",
        headers={
            "Content-Security-Policy": _POLICY,
            "Cache-Control": "no-cache",
            "Referrer-Policy": "no-referrer",
        },
    )
