"""GET /api/language and /api/check: the names that an editor of expressions completes, and the faults it underlines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, TypedDict

import orjson
from aiohttp import web

from app.market.fields import TABLE as FIELD_TABLE
from app.market.fields import Field
from app.market.timeframes import TIMEFRAMES
from app.rules.language.check import KINDS, Kind, text_faults
from app.rules.language.functions import TABLE as FUNCTION_TABLE
from app.rules.language.lexer import MAX_LENGTH
from app.rules.language.names import ALIASES
from app.rules.rule import MAX_COOLDOWN_S, MAX_HOLD_S, MODES, SEVERITIES
from app.sidecar.http.parameters import Parameters
from app.sidecar.http.problems import missing_parameter
from app.sidecar.http.responses import conditional_json

_SUFFIXES: Final = {"k": 1_000, "M": 1_000_000}


async def language_response(request: web.Request) -> web.Response:
    Parameters(request.query, ())
    return conditional_json(request, _encoded())


async def check_response(request: web.Request) -> web.Response:
    """Answer 200 for a faulty expression too: its faults are the result."""
    parameters = Parameters(request.query, ("expression", "kind"))
    expression = parameters.text("expression")
    kind: Any = parameters.choice("kind", KINDS)
    if expression is None:
        raise missing_parameter("expression")
    return conditional_json(request, orjson.dumps({"faults": faults_json(expression, kind or "rule")}))


class FaultDocument(TypedDict):
    """position, length: of the part to underline, in characters."""

    position: int
    length: int
    message: str
    suggestions: Sequence[str]


def faults_json(expression: str, kind: Kind) -> list[FaultDocument]:
    return [
        {
            "position": fault.position,
            "length": fault.length,
            "message": fault.message,
            "suggestions": fault.suggestions,
        }
        for fault in text_faults(expression, kind)
    ]


@cache
def _encoded() -> bytes:
    return orjson.dumps(language())


def language() -> dict[str, object]:
    """Return everything that an expression may consist of, from the tables of fields, functions and timeframes."""
    return {
        "fields": [_field(field) for field in FIELD_TABLE],
        "aliases": ALIASES,
        "functions": [
            {
                "name": function.name,
                "signature": function.signature,
                "arguments": [kind.value for kind in function.takes],
                "meaning": function.meaning,
                "null_if": function.null,
                "over_all_symbols": function.universe,
            }
            for function in FUNCTION_TABLE
        ],
        "timeframes": [{"name": name, "minutes": minutes} for name, minutes in TIMEFRAMES.items()],
        "suffixes": [{"name": name, "factor": factor} for name, factor in _SUFFIXES.items()],
        "words": ["and", "or", "not"],
        "severities": SEVERITIES,
        "modes": MODES,
        "limits": {
            "expression_characters": MAX_LENGTH,
            "cooldown_s": MAX_COOLDOWN_S,
            "hold_s": MAX_HOLD_S,
        },
    }


def _field(field: Field) -> dict[str, object]:
    timeframes = tuple(TIMEFRAMES) if field.timeframes is None else field.timeframes
    return {
        "name": field.name,
        "unit": field.unit,
        "meaning": field.meaning,
        "null_unless_known": field.whole,
        "names": [field.column(timeframe) for timeframe in timeframes or ("",)],
    }
