"""Checks of values against the schemas in the OpenAPI document."""

from __future__ import annotations

from functools import cache
from typing import Any

from openapi_schema_validator import OAS31Validator, oas31_format_checker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from app.sidecar.http.openapi import openapi_document

_DOCUMENT = "urn:document"


@cache
def _registry() -> Registry[Any]:
    return Registry().with_resource(_DOCUMENT, DRAFT202012.create_resource(openapi_document()))


def pointer(*steps: str) -> str:
    """Return the JSON pointer for these keys in the document."""
    return "#" + "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in steps)


def resolved(node: dict[str, Any], place: str) -> tuple[dict[str, Any], str]:
    """Return the node that a reference points to, and its place; return other nodes as they are."""
    while "$ref" in node:
        place = node["$ref"]
        node = openapi_document()
        for step in place.removeprefix("#/").split("/"):
            node = node[step.replace("~1", "/").replace("~0", "~")]
    return node, place


def faults(value: object, schema_place: str) -> list[str]:
    """Return the faults of a value, by the schema at this place."""
    validator = OAS31Validator(
        {"$ref": _DOCUMENT + schema_place}, registry=_registry(), format_checker=oas31_format_checker
    )
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def faults_of_answer(method: str, path: str, status: int, value: object) -> list[str]:
    """Return the faults of an answer. `path` is the route's template; an undescribed status counts as `default`."""
    answers = openapi_document()["paths"][path][method.lower()]["responses"]
    key = str(status) if str(status) in answers else "default"
    place = pointer("paths", path, method.lower(), "responses", key)
    _, place = resolved(answers[key], place)
    return faults(value, place + pointer("content", "application/json", "schema").removeprefix("#"))
