"""GET /api/rules, and what administrators do with rules: POST, PUT, DELETE."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
import structlog
from aiohttp import web

from app.database.rule_store import RuleStore
from app.errors import RuleError
from app.rules.files import rule_from_mapping
from app.rules.parser import parse_condition
from app.rules.rule import Rule
from app.sidecar.admission import caller_of
from app.sidecar.answers import conditional_json, private_json
from app.sidecar.bodies import json_object
from app.sidecar.database import Database, HistoryUnavailable
from app.sidecar.known_rules import KnownRules
from app.sidecar.parameters import Parameters
from app.sidecar.problems import RequestError, bad_expression, unavailable, unknown_rule

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
)
READ_ONLY: Final = ("version", "updated_at")

log = structlog.get_logger("sidecar.rules")


class RulesEndpoint:
    def __init__(self, database: Database, known: KnownRules) -> None:
        self._database = database
        self._known = known

    async def get_all(self, request: web.Request) -> web.Response:
        """Beside the rules: what is wrong with those that somebody wrote into the table and that are none."""
        Parameters(request.query, ())
        stored = await self._known.stored()
        body = {"rules": stored.rules, "refused": dict(stored.refused)}
        return conditional_json(request, orjson.dumps(body))

    async def get_one(self, request: web.Request) -> web.Response:
        Parameters(request.query, ())
        rule = await self._known.find(request.match_info["rule_type"])
        return conditional_json(request, orjson.dumps(rule))

    async def create(self, request: web.Request) -> web.Response:
        Parameters(request.query, ())
        rule = rule_of(await json_object(request, FIELDS, READ_ONLY))
        return private_json(orjson.dumps(await self._put(request, rule, new=True)), status=201)

    async def replace(self, request: web.Request) -> web.Response:
        """The whole rule: what the body leaves out takes its default."""
        Parameters(request.query, ())
        name = request.match_info["rule_type"]
        values = await json_object(request, FIELDS, READ_ONLY)
        if values.setdefault("rule_type", name) != name:
            raise RequestError(400, "bad_rule", "rule_type: must be that of the address")
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

    async def _put(self, request: web.Request, rule: Rule, *, new: bool) -> Rule:
        async with self._changing() as store:
            if new and any(known.rule_type == rule.rule_type for known in await store.all()):
                raise RequestError(409, "rule_exists", "there is a rule of this name: PUT replaces it")
            try:
                stored = await store.put(rule)
            except RuleError as error:
                raise RequestError(409, "too_many_rules", str(error)) from None
        log.info(
            "rule_put", rule_type=stored.rule_type, version=stored.version, by=caller_of(request).user_id
        )
        return stored

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[RuleStore]:
        try:
            async with self._database.pool("write_rules") as pool:
                yield RuleStore(pool)
        except HistoryUnavailable:
            raise unavailable("the rules") from None
        finally:
            self._known.forget()


def rule_of(values: Mapping[str, Any]) -> Rule:
    """Raises RequestError 400; for a fault in the expression with its position."""
    expression = values.get("expression")
    if isinstance(expression, str):
        try:
            parse_condition(expression)
        except RuleError as error:
            raise bad_expression("expression", error) from None
    try:
        return rule_from_mapping(values)
    except RuleError as error:
        raise RequestError(400, "bad_rule", str(error)) from None
