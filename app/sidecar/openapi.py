"""GET /api/openapi.json: the description of every REST address, kept as openapi.yaml."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import orjson
import yaml
from aiohttp import web

from app.sidecar.answers import conditional_json
from app.sidecar.parameters import Parameters


@cache
def openapi_document() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(files("app.sidecar").joinpath("openapi.yaml").read_text())
    return document


@cache
def _encoded() -> bytes:
    return orjson.dumps(openapi_document())


async def openapi_response(request: web.Request) -> web.Response:
    Parameters(request.query, ())
    return conditional_json(request, _encoded())
