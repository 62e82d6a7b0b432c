"""The candle stream, by JetStream's own snapshots: every message with its number and time, and every consumer with
its acknowledged messages.

The protocol is the one of `nats stream backup` and `restore`: chunks of an archive, each confirmed, an empty one at
the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.errors import NotFoundError

from app.backup.manifest import StreamSnapshot
from app.errors import BackupUnusable, RestoreRefused, ServerError, ServerUnreachable
from app.settings.access import Namespace, NatsAccess
from app.wire.nats.stream import connect, stream_name

SNAPSHOT: Final = "stream.tar.s2"
_CHUNK_BYTES: Final = 128 * 1024
_API_TIMEOUT_S: Final = 10.0
_CHUNK_TIMEOUT_S: Final = 60.0


async def dump(nats: NatsAccess, directory: Path) -> StreamSnapshot | None:
    """Write the snapshot to `directory`; return its description, None without a stream.

    Raises ServerUnreachable if NATS does not answer, BackupUnusable if the snapshot breaks off.
    """
    client = await connect(nats.url, "backup")
    try:
        return await _dump(client, nats.namespace, directory)
    except (Error, OSError, TimeoutError) as error:
        raise _broken_off(error) from error
    finally:
        await client.close()


async def _dump(client: Client, namespace: Namespace, directory: Path) -> StreamSnapshot | None:
    name = stream_name(namespace)
    try:
        await client.jetstream(timeout=_API_TIMEOUT_S).stream_info(name)
    except NotFoundError:
        return None
    chunks: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=chunks.put)
    request = {"deliver_subject": inbox, "no_consumers": False, "chunk_size": _CHUNK_BYTES}
    answer = await _ask(client, f"$JS.API.STREAM.SNAPSHOT.{name}", request)
    with (directory / SNAPSHOT).open("wb") as file:
        while True:
            chunk = await asyncio.wait_for(chunks.get(), _CHUNK_TIMEOUT_S)
            if not chunk.data:
                _check_end(chunk)
                break
            file.write(chunk.data)
            if chunk.reply:
                await client.publish(chunk.reply)
    await subscription.unsubscribe()
    return StreamSnapshot(config=answer["config"], state=answer["state"])


def _check_end(chunk: Msg) -> None:
    """Check the status in a header of the last, empty chunk; without a status the snapshot is complete. Raises
    BackupUnusable."""
    status = (chunk.headers or {}).get("Status", "")
    if status and status != "204":
        description = (chunk.headers or {}).get("Description", "")
        raise BackupUnusable(f"NATS ended the snapshot of the stream: {status} {description}".strip())


async def refuse_if_there(nats: NatsAccess) -> None:
    """Check that the stream is absent or empty. Raises RestoreRefused if it has messages."""
    name = stream_name(nats.namespace)
    client = await connect(nats.url, "restore")
    try:
        state = (await client.jetstream(timeout=_API_TIMEOUT_S).stream_info(name)).state
    except NotFoundError:
        return
    except (Error, OSError, TimeoutError) as error:
        raise _broken_off(error) from error
    finally:
        await client.close()
    if state.messages:
        raise RestoreRefused(
            f"the stream {name} has {state.messages:,} messages: restore to an empty server, or use "
            "--overwrite to replace it"
        )


async def restore(nats: NatsAccess, directory: Path, stream: StreamSnapshot) -> None:
    """Delete the stream if it is there, and bring it back as it was, consumers and numbers of messages included."""
    name = stream_name(nats.namespace)
    client = await connect(nats.url, "restore")
    try:
        if stream.name != name:
            raise RestoreRefused(
                f"the backup holds the stream {stream.name}, here it is called {name}: set "
                "SCREENER_NAMESPACE to that of the backup"
            )
        with suppress(NotFoundError):
            await client.jetstream(timeout=_API_TIMEOUT_S).delete_stream(name)
        answer = await _ask(client, f"$JS.API.STREAM.RESTORE.{name}", stream.model_dump())
        with (directory / SNAPSHOT).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                await client.request(answer["deliver_subject"], chunk, timeout=_CHUNK_TIMEOUT_S)
        end = await client.request(answer["deliver_subject"], b"", timeout=_CHUNK_TIMEOUT_S)
        _refused(orjson.loads(end.data))
    except (Error, OSError, TimeoutError) as error:
        raise _broken_off(error) from error
    finally:
        await client.close()


async def _ask(client: Client, subject: str, request: Mapping[str, object]) -> dict[str, Any]:
    answer = await client.request(subject, orjson.dumps(request), timeout=_API_TIMEOUT_S)
    return _refused(orjson.loads(answer.data))


def _refused(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise ServerError(f"NATS rejects: {answer['error']['description']} (code {answer['error']['code']})")
    return answer


def _broken_off(error: BaseException) -> ServerUnreachable:
    return ServerUnreachable(f"the connection to NATS broke: {error!r}; see its log, and SCREENER_NATS_URL")
