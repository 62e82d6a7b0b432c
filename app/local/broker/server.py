"""The broker's connections: each answers its requests in order."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from io import BytesIO

from kio.schema.api_versions.v0 import request as versions_v0_request
from kio.schema.api_versions.v0 import response as versions_v0
from kio.schema.api_versions.v2 import request as versions_request
from kio.schema.api_versions.v2 import response as versions_response
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer
from kio.static.primitive import i16
from kio.static.protocol import Payload

from app.clock import Clock
from app.local.broker.api import NO_THROTTLE, Api
from app.local.broker.api_groups import GroupApi
from app.local.broker.api_records import RecordApi
from app.local.broker.api_topics import TopicApi
from app.local.broker.login import Login, User
from app.local.broker.topics import TopicLogs
from app.process.tasks import ended

log = logging.getLogger(__name__)

_MAX_REQUEST_BYTES = 100 * 1024 * 1024
_MAX_LOGIN_BYTES = 64 * 1024
"""The most bytes of a request before the login."""
_RETENTION_INTERVAL_S = 1.0
_SIZE = struct.Struct(">i")
# Request header version 1: API key, API version, correlation id, length of the client id that follows.
_HEADER = struct.Struct(">hhih")
_API_VERSIONS = 18


Apis = Mapping[tuple[int, int], Api]
"""By key and version."""


class BadRequestError(ValueError):
    """Bytes that are no request we know; the connection is closed, as Kafka does."""


class Broker:
    """Listens on `host` and `port` from `start` to `close`; serves `user` alone."""

    def __init__(
        self, host: str, port: int, cluster_id: str, topics: TopicLogs, user: User, clock: Clock
    ) -> None:
        self._host = host
        self._port = port
        self._user = user
        self._clock = clock
        self._topics = topics
        self._groups = GroupApi(host, port)
        parts = (RecordApi(self._topics, clock), TopicApi(self._topics, cluster_id, host, port), self._groups)
        own = (
            Api(versions_v0_request.ApiVersionsRequest, self._versions_v0),
            Api(versions_request.ApiVersionsRequest, self._versions),
        )
        self._open = _by_version(own)
        self._closed = _by_version(api for part in parts for api in part.apis())
        self._versions_served = self._open | self._closed | _by_version(Login(user).apis())
        self._server: asyncio.Server | None = None
        self._retention: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._connected, self._host, self._port)
        self._retention = asyncio.create_task(self._enforce_retention())

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await ended(*self._connections, *([self._retention] if self._retention else []))
        self._groups.close()

    async def _enforce_retention(self) -> None:
        while True:
            await asyncio.sleep(_RETENTION_INTERVAL_S)
            gone_bytes = self._topics.enforce_retention(self._clock.now_ms(), self._groups.unread_from)
            if gone_bytes:
                log.warning(
                    "there is no room: dropped %d bytes of records that some group had not read", gone_bytes
                )

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # this is the body of one
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client went, or we are closing
        except BadRequestError as error:
            log.warning("connection closed: %s", error)
        except Exception:  # an internal error ends one connection, never the broker
            log.exception("connection closed because of an error in the broker")
        finally:
            self._connections.discard(task)
            with suppress(ConnectionError):
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        login = Login(self._user)
        before = self._open | _by_version(login.apis())
        after = before | self._closed
        while not login.refused:
            (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
            if not _HEADER.size <= size <= (_MAX_REQUEST_BYTES if login.done else _MAX_LOGIN_BYTES):
                raise BadRequestError(f"a request of {size} bytes")
            answer = await self._answer(await reader.readexactly(size), after if login.done else before)
            if answer is not None:
                writer.write(answer)
                await writer.drain()

    async def _answer(self, message: bytes, apis: Apis) -> bytes | None:
        """Return the framed answer. Raises BadRequestError."""
        key, version, correlation_id, client_id_size = _HEADER.unpack_from(message)
        api = apis.get((key, version))
        if api is None:
            if (key, version) in self._versions_served:
                raise BadRequestError(f"API {key} before the login")
            if key != _API_VERSIONS:
                raise BadRequestError(f"API {key} in version {version} is not served")
            # A client newer than we are: by the protocol it gets version 0 and retries.
            return _framed(correlation_id, self._versions_v0_answer(ErrorCode.unsupported_version))
        body = _HEADER.size + max(client_id_size, 0)
        try:
            request, _ = entity_reader(api.request)(message, body)
        except Exception as error:
            raise BadRequestError(f"API {key} in version {version}: {error!r}") from error
        answer = await api.answer(request)
        return None if answer is None else _framed(correlation_id, answer)

    async def _versions(
        self, request: versions_request.ApiVersionsRequest
    ) -> versions_response.ApiVersionsResponse:
        keys = tuple(
            versions_response.ApiVersion(api_key=i16(key), min_version=i16(lowest), max_version=i16(highest))
            for key, lowest, highest in self._served()
        )
        return versions_response.ApiVersionsResponse(
            error_code=ErrorCode.none, api_keys=keys, throttle_time=NO_THROTTLE
        )

    async def _versions_v0(
        self, request: versions_v0_request.ApiVersionsRequest
    ) -> versions_v0.ApiVersionsResponse:
        return self._versions_v0_answer(ErrorCode.none)

    def _versions_v0_answer(self, error: ErrorCode) -> versions_v0.ApiVersionsResponse:
        keys = tuple(
            versions_v0.ApiVersion(api_key=i16(key), min_version=i16(lowest), max_version=i16(highest))
            for key, lowest, highest in self._served()
        )
        return versions_v0.ApiVersionsResponse(error_code=error, api_keys=keys)

    def _served(self) -> list[tuple[int, int, int]]:
        """Return (key, lowest version, highest version) of every API."""
        keys = sorted({key for key, _ in self._versions_served})
        versions = {
            key: sorted(version for one, version in self._versions_served if one == key) for key in keys
        }
        return [(key, versions[key][0], versions[key][-1]) for key in keys]


def _by_version(apis: Iterable[Api]) -> dict[tuple[int, int], Api]:
    return {(api.key, api.version): api for api in apis}


def _framed(correlation_id: int, answer: Payload) -> bytes:
    body = BytesIO()
    entity_writer(type(answer))(body, answer)
    content = body.getvalue()
    return _SIZE.pack(_SIZE.size + len(content)) + _SIZE.pack(correlation_id) + content
