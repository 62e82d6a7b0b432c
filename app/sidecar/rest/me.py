"""GET and PUT /api/me: the document that the page keeps for its caller, the same in every browser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson
from aiohttp import web

from app.database.user_documents import UserDocument, read_user_document, store_user_document
from app.sidecar.access.admission import caller_of
from app.sidecar.http.parameters import Parameters
from app.sidecar.http.problems import RequestError, unavailable
from app.sidecar.http.request_body import json_object
from app.sidecar.http.responses import private_json
from app.sidecar.rest.personal_document import checked_document, readable_document
from app.sidecar.state.database import Database, HistoryUnavailable
from app.times import rfc3339, utc_ms

_FIELDS: Final = ("version", "document")
_READ_ONLY: Final = ("user_id", "updated_at")
_VERSION_MAX: Final = 2**31 - 2


class MeEndpoint:
    """The version is in the body, not in an ETag: a proxy that compresses makes an ETag weak, and If-Match needs a
    strong one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, request: web.Request) -> web.Response:
        Parameters(request.query, ())
        user_id = caller_of(request).user_id
        try:
            async with self._database.connection("user_document") as connection:
                found = await read_user_document(connection, user_id)
        except HistoryUnavailable:
            raise unavailable("your document") from None
        return _answer(user_id, found)

    async def put(self, request: web.Request) -> web.Response:
        """Replace the document if its version is the stored one; else 409, and nothing changes."""
        Parameters(request.query, ())
        user_id = caller_of(request).user_id
        version, document = _change(await json_object(request, _FIELDS, _READ_ONLY))
        try:
            async with self._database.connection("store_user_document") as connection:
                stored = await store_user_document(connection, user_id, version, document)
        except HistoryUnavailable:
            raise unavailable("your document") from None
        if stored is None:
            raise RequestError(
                409,
                "changed_elsewhere",
                f"version {version} is not the stored one: read it, merge, store again",
            )
        return _answer(user_id, stored)


def _change(values: Mapping[str, object]) -> tuple[int, bytes]:
    version, document = values.get("version"), values.get("document")
    if type(version) is not int or not 0 <= version <= _VERSION_MAX:
        raise RequestError(400, "bad_field", "version: must be that of the last answer, 0 before the first")
    if not isinstance(document, dict):
        raise RequestError(400, "bad_field", "document: must be an object")
    try:
        return version, checked_document(document)
    except ValueError as error:
        raise RequestError(400, "bad_field", str(error)) from None


def _answer(user_id: str, found: UserDocument) -> web.Response:
    body = {
        "user_id": user_id,
        "version": found.version,
        "updated_at": None if found.updated_at is None else rfc3339(utc_ms(found.updated_at)),
        "document": readable_document(found.document),
    }
    return private_json(orjson.dumps(body))
