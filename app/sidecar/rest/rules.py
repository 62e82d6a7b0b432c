"""GET /api/rules, and the administrators' POST, PUT, DELETE."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
import structlog
from aiohttp import web

from app.database.rule_store import RuleStore
from app.errors import RuleError
from app.rules.files import mapping_faults, rule_from_mapping
from app.rules.rule import Fault, Rule
from app.sidecar.access.admission import caller_of
from app.sidecar.http.parameters import Parameters
from app.sidecar.http.problems import RequestError, unavailable, unknown_rule
from app.sidecar.http.request_body import any_json_object, json_object
from app.sidecar.http.responses import conditional_json, private_json
from app.sidecar.state.database import Database, HistoryUnavailable
from app.sidecar.state.rules import RuleList, RuleStates

FIELDS: Final = (
    "rule_type",
    "expression",
    "severity",
    "cooldown_s",
    "description",
    "enabled",
    "mode",
    "symbols",
    "hold_s",
    "shadow",
)
READ_ONLY: Final = ("version", "updated_at", "state", "faults")

log = structlog.get_logger("sidecar.rules")


class RulesEndpoint:
    def __init__(self, database: Database, known: RuleList, states: RuleStates, values_max: int) -> None:
        """values_max: see `app.rules.evaluation.cost`."""
        self._values_max = values_max
        self._database = database
        self._known = known
        self._states = states

    async def get_all(self, request: web.Request) -> web.Response:
        """List each rule with its state, and the faults of invalid rows in the table."""
        Parameters(request.query, ())
        stored = await self._known.stored()
        rules = [self._states.describe(rule) for rule in stored.rules]
        body = {"rules": rules, "refused": dict(stored.refused)}
        return conditional_json(request, orjson.dumps(body))

    async def get_one(self, request: web.Request) -> web.Response:
        Parameters(request.query, ())
        rule = await self._known.find(request.match_info["rule_type"])
        return conditional_json(request, orjson.dumps(self._states.describe(rule)))

    async def create(self, request: web.Request) -> web.Response:
        Parameters(request.query, ())
        rule = rule_of(await _values(request))
        return private_json(orjson.dumps(await self._put(request, rule, new=True)), status=201)

    async def replace(self, request: web.Request) -> web.Response:
        """Replace the whole rule: fields missing in the body take their defaults."""
        Parameters(request.query, ())
        name = request.match_info["rule_type"]
        values = await _values(request, rule_type=name)
        if values["rule_type"] != name:
            raise RequestError(400, "bad_rule", "rule_type: must be the rule_type of the path")
        return private_json(orjson.dumps(await self._put(request, rule_of(values), new=False)))

    async def delete(self, request: web.Request) -> web.Response:
        Parameters(request.query, ())
        name = request.match_info["rule_type"]
        async with self._changing() as store:
            found = await store.delete(name)
        if not found:
            raise unknown_rule()
        log.info("rule_deleted", rule_type=name, by=caller_of(request).user_id)
        return web.Response(status=204)

    async def _put(self, request: web.Request, rule: Rule, *, new: bool) -> dict[str, object]:
        async with self._changing() as store:
            if new and any(known.rule_type == rule.rule_type for known in await store.all()):
                raise RequestError(409, "rule_exists", "a rule with this name exists: PUT replaces it")
            try:
                stored = await store.put(rule)
            except RuleError as error:
                raise RequestError(409, "too_many_rules", str(error)) from None
        log.info(
            "rule_put", rule_type=stored.rule_type, version=stored.version, by=caller_of(request).user_id
        )
        return self._states.describe(stored)

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[RuleStore]:
        try:
            async with self._database.pool("write_rules") as pool:
                yield RuleStore(pool, self._values_max)
        except HistoryUnavailable:
            raise unavailable("the rules") from None
        finally:
            self._known.forget()


async def _values(request: web.Request, **defaults: str) -> dict[str, Any]:
    """Return the rule in the body. Raises RequestError as `json_object` does; if some fields cannot be set, the error
    names the faults of the other fields too."""
    try:
        return defaults | await json_object(request, FIELDS, READ_ONLY)
    except RequestError as error:
        if error.code not in ("unknown_field", "read_only_field"):
            raise
        given = defaults | await any_json_object(request)
        faults = mapping_faults({name: given[name] for name in FIELDS if name in given})
        raise _refused(error.code, faults, error.message) from None


def rule_of(values: Mapping[str, Any]) -> Rule:
    """Return the rule. Raises RequestError 400 that names every fault, with the position of one in the expression."""
    try:
        return rule_from_mapping(values)
    except RuleError:
        faults = mapping_faults(values)
    in_expression = any(fault.position is not None for fault in faults)
    raise _refused("bad_expression" if in_expression else "bad_rule", faults)


def _refused(code: str, faults: Sequence[Fault], *before: str) -> RequestError:
    told = [f"expression: {fault.text}" if fault.position is not None else fault.text for fault in faults]
    position = next((fault.position for fault in faults if fault.position is not None), None)
    return RequestError(400, code, "; ".join((*before, *told)), position=position, faults=faults)
