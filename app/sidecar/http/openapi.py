"""GET /api/openapi.json: the description of every REST address, kept as openapi.yaml.

The file repeats neither the webhook formats nor the functions of the rules' language: a new one is entered only in
their tables.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import orjson
import yaml
from aiohttp import web

from app.rules.language.functions import TABLE as FUNCTION_TABLE
from app.rules.language.functions import RuleFunction
from app.sidecar.http.parameters import Parameters
from app.sidecar.http.responses import conditional_json
from app.webhooks.formats import FORMATS


@cache
def openapi_document() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(files("app.sidecar.http").joinpath("openapi.yaml").read_text())
    schemas = document["components"]["schemas"]
    schemas["WebhookFormat"]["enum"] = list(FORMATS)
    schemas["Expression"]["description"] += "\n\n" + "\n".join(map(_described, FUNCTION_TABLE))
    return document


def _described(function: RuleFunction) -> str:
    null = f"; null if {function.null}" if function.null else ""
    return f"- `{function.signature}`: {function.meaning}{null}"


@cache
def _encoded() -> bytes:
    return orjson.dumps(openapi_document())


async def openapi_response(request: web.Request) -> web.Response:
    Parameters(request.query, ())
    return conditional_json(request, _encoded())
