"""The page at `/`: live alerts, symbols, screening and explanations, as one answer without outside parts.

It is put together from the files in `dashboard/`: the page, its style, and its scripts in order of name, which
share one scope of their own. The content security policy names the two texts by hash, so nothing else runs.
"""

from __future__ import annotations

import base64
from hashlib import sha256
from importlib.resources import files
from typing import Final

from aiohttp import web

_FOLDER: Final = files("app.sidecar").joinpath("dashboard")
_STYLE: Final = _FOLDER.joinpath("style.css").read_text()
_SCRIPT: Final = "\n".join(
    [
        '(() => {\n"use strict";',
        *(
            file.read_text()
            for file in sorted(_FOLDER.iterdir(), key=lambda file: file.name)
            if file.name.endswith(".js")
        ),
        "})();",
    ]
)


def _source(text: str) -> str:
    """How the policy names an element with this text."""
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


PAGE: Final = (
    _FOLDER.joinpath("page.html")
    .read_text()
    .replace("/* style.css */", _STYLE)
    .replace("/* scripts */", _SCRIPT)
    .encode()
)
_POLICY: Final = (
    f"default-src 'none'; script-src {_source(_SCRIPT)}; style-src {_source(_STYLE)}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
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
