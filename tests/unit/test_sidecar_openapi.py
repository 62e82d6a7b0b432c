"""The file that describes the REST addresses: valid, nothing in it twice, and its examples are as it says."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest
import yaml

from app.rules.language.catalogue import matching
from app.rules.language.functions import TABLE
from app.sidecar.http.openapi import openapi_document
from tests.support.described import faults, pointer, resolved

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "deploy/helm/screener/templates"
YAML_FILES = [
    path
    for folder in ("app", "deploy", ".github")
    for path in sorted((ROOT / folder).rglob("*.y*ml"))
    # those are no YAML before Helm has filled them
    if not path.is_relative_to(TEMPLATES) and "node_modules" not in path.parts
]


def repeated_keys(text: str) -> list[str]:
    """Keys that stand twice in a mapping: a loader of YAML keeps the last of them and says nothing."""
    found: list[str] = []
    walked: set[int] = set()

    def walk(node: yaml.Node) -> None:
        if id(node) in walked:
            return
        walked.add(id(node))
        if isinstance(node, yaml.MappingNode):
            seen: set[tuple[str, str]] = set()
            for key, value in node.value:
                if (key.tag, key.value) in seen:
                    found.append(f"{key.value} at line {key.start_mark.line + 1}")
                seen.add((key.tag, key.value))
                walk(value)
        elif isinstance(node, yaml.SequenceNode):
            for one in node.value:
                walk(one)

    for document in yaml.compose_all(text, yaml.SafeLoader):
        if document is not None:
            walk(document)
    return found


def test_a_key_that_stands_twice_is_found():
    text = "a: &a {b: 1, c: 2}\nd:\n  - {<<: *a, b: 3}\n  - {e: 1, f: 2, e: 3}\n---\nd: 1\nd: 2"
    assert repeated_keys(text) == ["e at line 4", "d at line 7"]


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_key_stands_twice(path: Path):
    assert repeated_keys(path.read_text()) == []


def test_the_file_that_is_served_is_among_those_that_are_looked_at():
    assert Path(str(files("app.sidecar.http").joinpath("openapi.yaml"))).resolve() in YAML_FILES


def test_the_description_is_valid_openapi():
    openapi_spec_validator.validate(openapi_document())


def test_every_operation_says_who_may_call_it_by_schemes_that_are_described():
    document = openapi_document()
    known = set(document["components"]["securitySchemes"])
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method != "parameters":
                schemes = {name for choice in operation["security"] for name in choice}
                assert schemes <= known, f"{method} {path}"


def test_a_volume_is_described_with_its_asset_and_its_name_in_rules():
    told = openapi_document()["components"]["schemas"]["Metrics"]["description"]
    assert "`volume` is in the base asset" in told
    assert "`volume` is base_volume_5m, and volume_5m means quote_volume_5m" in told
    meant = {entry.name: entry for entry in matching("volume")}
    assert meant["base_volume_TIMEFRAME"].unit == "base asset"
    assert "alias of `quote_volume_5m`" in meant["volume_5m"].meaning


def test_every_function_of_the_rules_language_is_described_where_expressions_are_taken():
    document = openapi_document()
    told = document["components"]["schemas"]["Expression"]["description"]
    assert all(f"- `{function.signature}`: {function.meaning}" in told for function in TABLE)
    where, sort, *_ = document["paths"]["/api/screener"]["get"]["parameters"]
    rule = document["components"]["schemas"]["RuleBody"]["properties"]
    for schema in (where["schema"], sort["schema"], rule["expression"]):
        assert schema == {"$ref": "#/components/schemas/Expression"}


def contents() -> Iterator[tuple[str, dict[str, Any], str]]:
    """(which, what, its place) of everything that an operation takes and, where all went well, answers."""
    for path, item in openapi_document()["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            place = pointer("paths", path, method)
            bodies = {"requestBody": operation["requestBody"]} if "requestBody" in operation else {}
            good = {key: one for key, one in operation["responses"].items() if key.startswith("2")}
            assert good, f"{method} {path}: no answer"
            for key, one in [*bodies.items(), *good.items()]:
                where = f"/{key}" if key in bodies else f"/responses/{key}"
                body, found = resolved(one, place + where)
                for kind, content in body.get("content", {}).items():
                    step = pointer("content", kind).removeprefix("#")
                    yield f"{method} {path} {key}", content, found + step
                assert key == "204" or body["content"], f"{method} {path} {key}"


@pytest.mark.parametrize(
    ("content", "place"), [pytest.param(content, place, id=which) for which, content, place in contents()]
)
def test_each_body_and_answer_has_an_example_that_fits_its_schema(content: dict[str, Any], place: str):
    assert "example" in content
    assert faults(content["example"], place + "/schema") == []


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"metrics": [{}]}, "$.metrics[0]: 'symbol' is a required property"),
        ({"metrics": [], "x": 1}, "$: Additional properties are not allowed ('x' was unexpected)"),
    ],
)
def test_what_does_not_fit_a_schema_is_told(value: object, fault: str):
    place = pointer("paths", "/api/metrics", "get", "responses", "200", "content", "application/json")
    assert fault in faults(value, place + "/schema")
