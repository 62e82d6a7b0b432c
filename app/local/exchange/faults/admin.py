"""/sim/...: faults on command, and the state of the exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypedDict

import orjson
from aiohttp import web
from pydantic import ValidationError

from app.local.exchange.faults.active import FaultRefused, Faults
from app.local.exchange.faults.kinds import FAULT


class Admin:
    """`state` gives the object that GET /sim/state answers."""

    def __init__(self, faults: Faults, state: Callable[[], Mapping[str, object]]) -> None:
        self._faults = faults
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/health/live", self._healthy),
            web.get("/health/ready", self._healthy),
            web.get("/sim/state", self._get_state),
            web.get("/sim/faults", self._list),
            web.post("/sim/faults", self._begin),
            web.delete("/sim/faults", self._end),
        ]

    async def _healthy(self, _: web.Request) -> web.Response:
        return _json(200, {"ready": True})

    async def _get_state(self, _: web.Request) -> web.Response:
        return _json(200, self._state())

    async def _list(self, _: web.Request) -> web.Response:
        return _json(200, {"under_way": self._faults.under_way(), **counts(self._faults)})

    async def _begin(self, request: web.Request) -> web.Response:
        try:
            fault = FAULT.validate_json(await request.read())
            hit = self._faults.begin(fault)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            told = [
                {"where": ".".join(map(str, problem["loc"])), "what": problem["msg"]} for problem in problems
            ]
            return _json(400, {"error": "bad_fault", "problems": told})
        except FaultRefused as error:
            return _json(409, {"error": "fault_refused", "message": str(error)})
        return _json(201, {"fault": fault.model_dump(), "hit": hit})

    async def _end(self, _: web.Request) -> web.Response:
        return _json(200, {"ended": self._faults.end_all()})


class FaultCounts(TypedDict):
    """commanded: how often. befallen: connections, requests, candles or contracts that were hit."""

    commanded: int
    befallen: int


def counts(faults: Faults) -> dict[str, dict[str, FaultCounts]]:
    """Return the entry `faults` of an answer: kind -> counts."""
    return {
        "faults": {
            kind: {"commanded": commanded, "befallen": faults.befallen[kind]}
            for kind, commanded in faults.commanded.items()
        }
    }


def _json(status: int, value: object) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
