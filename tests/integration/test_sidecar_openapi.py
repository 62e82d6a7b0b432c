"""The description of the REST addresses: equal to the routes, and held to by what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from app.candles.intervals import INTERVALS
from app.market.timeframes import TIMEFRAMES
from app.rules.rule import MODES, SEVERITIES
from app.settings import Settings
from app.sidecar.http.openapi import openapi_document
from app.sidecar.http.route_table import Access, Route
from app.sidecar.http.routes import routes_of
from tests.support.candle_history import START_MS
from tests.support.metric_batches import publish_metrics
from tests.support.sidecar import Client, prepare, running_sidecar
from tests.support.tokens import SECRET, bearer

POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
NOBODY = "00000000-0000-4000-8000-000000000000"
EXAMPLES = 12
"""For each operation, of valid and of invalid requests."""
AGREES = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
REFUSES = [*AGREES, checks.negative_data_rejection]
REFUSALS = schemathesis.Config.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 409, 413, 415]}}}
)
QUIET = hypothesis_settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


# reason: the sidecar, in a thread beside, draws the random pauses of its reconnections while a request is generated
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await prepare(settings)
    return Settings.model_validate({**settings.model_dump(), "jwt_secret": SECRET})


async def routes(settings: Settings) -> list[Route]:
    async with running_sidecar(settings, wait_ready=False) as client:
        return list(routes_of(client.sidecar.parts))


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, item in openapi_document()["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


async def test_the_description_and_the_routes_are_the_same(settings):
    """But for WebSockets, for which it has no words."""
    found = await routes(settings)
    assert set(operations()) == {(route.method, route.path) for route in found if not route.websocket}
    for route in found:
        if not route.websocket:
            secured = bool(operations()[(route.method, route.path)]["security"])
            assert secured == (route.access is not Access.PUBLIC), route.path


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        target: Any = openapi_document()
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


async def test_every_parameter_that_is_described_is_known_and_no_other(ready):
    async with running_sidecar(ready) as client:
        for (method, path), operation in operations().items():
            if method != "GET" or not path.startswith("/api/") or path == "/api/health":
                continue
            described = sorted(
                found["name"]
                for found in map(_resolved, operation.get("parameters", []))
                if found["in"] == "query"
            )
            address = (
                path.replace("{symbol}", "A").replace("{rule_type}", "a").replace("{delivery_id}", NOBODY)
            )
            status, body = await client.send("GET", f"{address}?nothing=1", headers=bearer())
            assert (status, body["error"]) == (400, "unknown_parameter"), path
            known = body["message"].rpartition("known: ")[2]
            assert known == (", ".join(described) or "none"), path


def test_lists_of_words_are_those_of_the_code():
    schemas = openapi_document()["components"]["schemas"]
    assert schemas["Severity"]["enum"] == list(SEVERITIES)
    assert schemas["RuleBody"]["properties"]["mode"]["enum"] == [*MODES, None]
    timeframe = openapi_document()["components"]["parameters"]["timeframe"]
    assert timeframe["schema"]["items"]["enum"] == list(TIMEFRAMES)
    interval = next(
        found
        for found in operations()[("GET", "/api/klines")]["parameters"]
        if found.get("name") == "interval"
    )
    assert interval["schema"]["enum"] == list(INTERVALS)


def drive(url: str, mode: schemathesis.GenerationMode, expected: list[Callable[..., Any]]) -> int:
    """Sends generated requests for every operation under /api; how many were sent."""
    schema = schemathesis.openapi.from_dict(openapi_document(), config=REFUSALS)
    sent = 0

    def try_out(operation: Any) -> None:
        @QUIET
        @given(case=operation.as_strategy(generation_mode=mode))
        def call(case: Any) -> None:
            nonlocal sent
            sent += 1
            # longer ones do not get past the parser of HTTP
            assume(len(requests.Request(**case.as_transport_kwargs(base_url=url)).prepare().url) < 8_000)
            case.call_and_validate(base_url=url, headers=bearer("root", admin=True), checks=expected)

        call()

    for result in schema.get_all_operations():
        operation = result.ok()
        described = operations()[(operation.method.upper(), operation.path)]
        # what takes nothing cannot be asked wrongly
        takes_something = "{" in operation.path or {"parameters", "requestBody"} & set(described)
        if operation.path.startswith("/api/") and (takes_something or mode is POSITIVE):
            try_out(operation)
    return sent


async def _served(client: Client, ready: Settings) -> str:
    await publish_metrics(ready, [("BTCUSDT", START_MS, {"close_1m": 1.0, "price_change_1h": 2.0})])
    return f"http://127.0.0.1:{client.sidecar.port}"


async def test_valid_requests_are_answered_as_described(ready):
    async with running_sidecar(ready) as client:
        url = await _served(client, ready)
        sent = await asyncio.to_thread(drive, url, POSITIVE, AGREES)
    assert sent > EXAMPLES


async def test_invalid_requests_are_refused_as_described(ready):
    async with running_sidecar(ready) as client:
        url = await _served(client, ready)
        sent = await asyncio.to_thread(drive, url, NEGATIVE, REFUSES)
    assert sent > EXAMPLES
